"""The rules of dead letters: each is stored once, and closed once, by a redrive that worked or by a discard."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import is_unavailable
from chassis.dead_letters.envelope import attributes_of
from chassis.dead_letters.models import DeadLetter, Failures, Status
from chassis.dead_letters.reasons import describe_failure
from chassis.dead_letters.repository import DeadLetterRepository, FailureRepository, Origin
from chassis.errors import ApiError, NotFoundError
from chassis.identity import Principal
from chassis.inbox import ReceivedEvent, report_received
from chassis.logging import get_logger
from chassis.pagination import Page, cut_page, decode_cursor
from task_events import InvalidEventError, TaskEvent, parse_task_event

Apply = Callable[[AsyncSession, TaskEvent], Awaitable[ReceivedEvent]]
"""The consumer's door: takes an event through its inbox to its effect, in the caller's transaction."""

_UNEXPLAINED: Final = (
    "unknown: the event can be read, and no failure was noted; the handler did not answer, or its database was away"
)
_letters = Counter("taskwire_dead_letters_total", "Dead letters, by what was done with them", ["outcome"])
_logger = get_logger(__name__)


class DeadLetterNotFoundError(NotFoundError):
    """There is no such dead letter."""

    code = "dead_letter_not_found"


class DeadLetterConflictError(ApiError):
    """The dead letter is closed already, or its redrive failed again."""

    status, code = 409, "dead_letter_conflict"


class DeadLetterClosedError(DeadLetterConflictError):
    """The dead letter was redriven or discarded before."""

    code = "dead_letter_closed"


class RedriveFailedError(DeadLetterConflictError):
    """The event failed again; the dead letter stays open, with the new reason."""

    code = "redrive_failed"


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters to list."""

    status: Status | None
    limit: int
    cursor: str | None
    total: bool


@dataclass(frozen=True)
class Redrive:
    """What became of one letter of many.

    Attributes:
        outcome: `redriven`, `failed`, or why nothing was tried: `closed`, `not_found`.
        reason: Why it failed.
        verdict: What the inbox said of an event that was redriven.
    """

    id: int
    outcome: str
    reason: str | None = None
    verdict: str | None = None


async def note_failure(session: AsyncSession, event_id: str, reason: str) -> None:
    """Keep the reason of a failure for the dead letter that may come of it."""
    await FailureRepository(session).note(event_id, reason)
    await session.commit()


async def store(session: AsyncSession, origin: Origin, body: bytes) -> int | None:
    """Keep a message that came from the dead-letter topic, with what is known about its failures.

    Returns:
        The new letter's id, or None when the message was stored before.
    """
    attributes = attributes_of(body)
    event_id = attributes["event_id"]
    failures = FailureRepository(session)
    noted = await failures.take(event_id) if event_id is not None else None
    letter_id = await DeadLetterRepository(session).add(origin, body, noted or _from_content(body), attributes)
    await failures.forget_settled()
    await session.commit()
    if letter_id is not None:
        _letters.labels("stored").inc()
    return letter_id


def _from_content(body: bytes) -> Failures:
    """Find the reason in the message itself, as for everything that is no event of ours."""
    now = datetime.now(UTC)
    try:
        parse_task_event(body)
    except InvalidEventError as error:
        return Failures(describe_failure(error), 1, now, now)
    return Failures(_UNEXPLAINED, 1, now, now)


async def list_letters(session: AsyncSession, wanted: LetterFilter) -> Page[DeadLetter]:
    """Give a page of dead letters, newest first.

    Raises:
        InvalidInputError: The cursor is none of ours.
    """
    letters = DeadLetterRepository(session)
    before = decode_cursor(wanted.cursor)
    found = await letters.page(status=wanted.status, before=before, limit=wanted.limit + 1)
    total = await letters.count(status=wanted.status) if wanted.total else None
    return cut_page(found, limit=wanted.limit, position=lambda letter: letter.id, total=total)


async def get_letter(session: AsyncSession, letter_id: int) -> tuple[DeadLetter, bytes]:
    """Give a dead letter and the bytes of the original message.

    Raises:
        DeadLetterNotFoundError: No such letter.
    """
    found = await DeadLetterRepository(session).get(letter_id)
    if found is None:
        raise DeadLetterNotFoundError(f"There is no dead letter {letter_id}.")
    return found


async def discard(user: Principal, session: AsyncSession, letter_id: int, note: str) -> DeadLetter:
    """Close a letter for good without processing it.

    Raises:
        DeadLetterNotFoundError: No such letter.
        DeadLetterClosedError: It was closed before.
    """
    letters = DeadLetterRepository(session)
    await _hold_open(letters, letter_id)
    letter = await letters.close(letter_id, Status.DISCARDED, by=user.id, note=note)
    await session.commit()
    _letters.labels("discarded").inc()
    _logger.warning("dead letter discarded", dead_letter=letter_id, event_id=letter.event_id, by=user.id, note=note)
    return letter


async def redrive(user: Principal, session: AsyncSession, letter_id: int, apply: Apply) -> DeadLetter:
    """Process the event of a letter once more, through the consumer's own door, and close the letter with it.

    The effect and the closing are one transaction that holds the letter: of redrives at the same time one
    applies the event and the others find the letter closed. The inbox tells an event that is late or was
    processed after all.

    Raises:
        DeadLetterNotFoundError: No such letter.
        DeadLetterClosedError: It was closed before.
        RedriveFailedError: It failed again.
        DatabaseUnavailableError: Nothing was changed.
    """
    letters = DeadLetterRepository(session)
    body = await _hold_open(letters, letter_id)
    try:
        event = parse_task_event(body)
        async with session.begin_nested():
            received = await apply(session, event)
    except Exception as error:
        if is_unavailable(error):
            raise
        await _keep(letters, session, letter_id, error)
        raise RedriveFailedError(f"Dead letter {letter_id} failed again: {describe_failure(error)}") from error
    verdict = received.receipt.verdict.value
    letter = await letters.close(letter_id, Status.REDRIVEN, by=user.id, verdict=verdict)
    await session.commit()
    report_received(received)
    _letters.labels("redriven").inc()
    _logger.info("dead letter redriven", dead_letter=letter_id, event_id=event.id, verdict=verdict, by=user.id)
    return letter


async def _keep(letters: DeadLetterRepository, session: AsyncSession, letter_id: int, error: Exception) -> None:
    letter = await letters.fail_again(letter_id, describe_failure(error))
    await session.commit()
    _letters.labels("failed_again").inc()
    _logger.warning(
        "dead letter failed again",
        dead_letter=letter_id,
        event_id=letter.event_id,
        reason=letter.reason,
        attempts=letter.attempts,
        # Only a defect of ours has a stack worth reading.
        exc_info=not isinstance(error, InvalidEventError),
    )


async def _hold_open(letters: DeadLetterRepository, letter_id: int) -> bytes:
    found = await letters.get(letter_id, lock=True)
    if found is None:
        raise DeadLetterNotFoundError(f"There is no dead letter {letter_id}.")
    letter, body = found
    if letter.status != Status.OPEN.value:
        raise DeadLetterClosedError(f"Dead letter {letter_id} was {letter.status} by {letter.closed_by}.")
    return body


async def redrive_each(
    user: Principal, session: AsyncSession, letter_ids: Sequence[int], apply: Apply
) -> list[Redrive]:
    """Redrive letters one after the other, each in a transaction of its own, in the order in which they came.

    Raises:
        DatabaseUnavailableError: What was redriven before stays so.
    """
    return [await _redrive_one(user, session, letter_id, apply) for letter_id in sorted(set(letter_ids))]


async def redrive_open(
    user: Principal, session: AsyncSession, apply: Apply, *, limit: int, cursor: str | None
) -> Page[Redrive]:
    """Redrive so many of the open letters; the cursor goes on after them, whatever became of them.

    Raises:
        InvalidInputError: The cursor is none of ours.
    """
    after = decode_cursor(cursor) or 0
    found = await DeadLetterRepository(session).open_ids(after=after, limit=limit + 1)
    page = cut_page(found, limit=limit, position=lambda letter_id: letter_id)
    return Page(items=await redrive_each(user, session, page.items, apply), next_cursor=page.next_cursor)


async def _redrive_one(user: Principal, session: AsyncSession, letter_id: int, apply: Apply) -> Redrive:
    try:
        letter = await redrive(user, session, letter_id, apply)
    except RedriveFailedError as error:
        return Redrive(letter_id, "failed", reason=describe_failure(error.__cause__ or error))
    except DeadLetterClosedError:
        await session.rollback()
        return Redrive(letter_id, "closed")
    except DeadLetterNotFoundError:
        await session.rollback()
        return Redrive(letter_id, "not_found")
    return Redrive(letter_id, "redriven", verdict=letter.verdict)
