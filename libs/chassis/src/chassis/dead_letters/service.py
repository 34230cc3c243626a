"""The rules of dead letters: when an event becomes one; that each is stored once, and closed once.

A letter comes in by two doors. The consumer stores what fails in its hands; the sidecar puts what it gives up on into
the dead-letter topic. Both know which record it was, so both lead to the same letter.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import blames_the_data, is_unavailable
from chassis.dead_letters.envelope import attributes_of
from chassis.dead_letters.erasing import withdraw_if_erased
from chassis.dead_letters.models import DeadLetter, Failures, Status
from chassis.dead_letters.reasons import describe_failure, storable
from chassis.dead_letters.repository import DeadLetterRepository, FailureRepository, Origin
from chassis.erased_subjects import ErasedSubjects
from chassis.errors import ApiError, NotFoundError
from chassis.identity import Principal
from chassis.inbox import ReceivedEvent, report_received
from chassis.logging import get_logger
from chassis.metrics import with_series
from chassis.pagination import Page, cut_page, decode_cursor
from task_events import InvalidEventError, TaskEvent, parse_task_event

Apply = Callable[[AsyncSession, TaskEvent], Awaitable[ReceivedEvent]]
"""The consumer's door: takes an event through its inbox to its effect, in the caller's transaction."""

_ATTEMPTS: Final = 3
"""Failed attempts after which an event is given up; between them are the 3 s of `components/resiliency.yaml`."""
_UNEXPLAINED: Final = "unknown: the sidecar gave it up; the event can be read, and no failure of it was noted"
_letters = with_series(
    Counter("taskwire_dead_letters_total", "Dead letters, by what was done with them", ["outcome"]),
    *("stored", "redriven", "failed_again", "discarded"),
)
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


@dataclass(frozen=True)
class Kept:
    """What became of a record that failed.

    Attributes:
        settled: It is a letter; otherwise it is to be tried again.
        letter_id: Of the new letter; None when there is none or it was stored before.
    """

    settled: bool
    letter_id: int | None = None


async def settle_failure(
    session: AsyncSession,
    origin: Origin,
    body: bytes,
    event_id: str | None,
    error: Exception,
    erased: ErasedSubjects,
) -> Kept:
    """Note the failure of a record, and store it as a letter when there were enough of them: one transaction.

    What can never be read, and what the database refuses for its content, is a letter at once: trying again would
    hold up others for nothing, and a redrive does the same at any time. The count of the other failures is in the
    table, so that it outlives the process.

    Args:
        session: Its transaction is committed.
        origin: Which record it is.
        body: Its bytes.
        event_id: Of the event it is; None when it could not be read.
        error: How it failed.
        erased: Of whom nothing is kept.
    """
    if await DeadLetterRepository(session).has(origin, body):
        return Kept(settled=True)
    if event_id is not None:
        attempts = await FailureRepository(session).note(storable(event_id), describe_failure(error))
        if attempts < _ATTEMPTS and not blames_the_data(error):
            await session.commit()
            return Kept(settled=False)
    return Kept(settled=True, letter_id=await store(session, origin, body, erased))


async def store(session: AsyncSession, origin: Origin, body: bytes, erased: ErasedSubjects) -> int | None:
    """Keep a message with what is known about its failures.

    Returns:
        The new letter's id, or None when the message was stored before, or is of somebody who was erased.
    """
    failures = FailureRepository(session)
    why = await _why(failures, body)
    letter_id = await DeadLetterRepository(session).add(origin, body, why, attributes_of(body))
    if letter_id is not None and await withdraw_if_erased(session, letter_id, body, erased):
        letter_id = None
    await failures.forget_settled()
    await session.commit()
    if letter_id is not None:
        _letters.labels("stored").inc()
    return letter_id


async def _why(failures: FailureRepository, body: bytes) -> Failures:
    """Find the reason in the message itself, for all that is no event of ours, or in what was noted about it."""
    now = datetime.now(UTC)
    try:
        event = parse_task_event(body)
    except InvalidEventError as error:
        return Failures(describe_failure(error), 1, now, now)
    return await failures.take(storable(event.id)) or Failures(_UNEXPLAINED, 1, now, now)


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
