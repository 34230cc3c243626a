"""Why something failed, in one line that may be stored and shown to an operator."""

from typing import Final

from sqlalchemy.exc import DBAPIError

from task_events import InvalidEventError

MAX_REASON_CHARS: Final = 500


def describe_failure(error: BaseException) -> str:
    """Name an error and what it says, without the statement, the parameters and the row that PostgreSQL repeats."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    # SQLAlchemy's own wrapper says `<class '…'>: message`; asyncpg's error below it says just the message.
    cause = cause.__cause__ or cause if isinstance(error, DBAPIError) else cause
    if isinstance(cause, TimeoutError):
        return "TimeoutError: the handler did not finish in time"
    if isinstance(cause, InvalidEventError):
        return storable(str(cause))
    lines = str(cause).strip().splitlines()
    name = type(cause).__name__
    return storable(f"{name}: {lines[0]}" if lines else name)


def storable(text: str, limit: int = MAX_REASON_CHARS) -> str:
    """Give a text as PostgreSQL takes it: no NUL, no lone surrogate, not longer than `limit` characters."""
    clean = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
