"""Dead letters of somebody who is erased: the letter stays, as a place where something failed, and says nothing.

An event of a task of somebody else, or of an engagement, is not theirs alone: it loses their name, as who made the
change or as one who is told, and stays open, so that the others find what was changed when it is redriven.

The bytes of a letter may be anything. Of an event it is known whose it is; what cannot be read as one is taken for
the user's when their id is in it as a JSON string.
"""

import hashlib
import json
import secrets
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.erased_subjects import ErasedSubjects
from chassis.identity import ERASED, MAX_SUBJECT_CHARS
from task_events import InvalidEventError, TaskEvent, parse_task_event

_HOLD: Final = text("LOCK TABLE dead_letters IN SHARE ROW EXCLUSIVE MODE")
# So many, whether they mention the user or not: looking through all of them may take longer than there is time.
_PART: Final = text(
    """
    SELECT id, CASE WHEN position(CAST(:plain AS bytea) IN body) > 0 OR position(CAST(:escaped AS bytea) IN body) > 0
                    THEN body END
    FROM (SELECT id, body FROM dead_letters WHERE id > :after ORDER BY id LIMIT :limit) AS part
    ORDER BY id
    """
)
# Not of the old bytes: who has a digest of them can try what they were.
_BLANK: Final = text(
    """
    UPDATE dead_letters SET body = ''::bytea, body_sha256 = :no_digest, event_id = NULL, event_type = NULL,
        subject = NULL, reason = :erased, note = :erased,
        status = CASE status WHEN 'open' THEN 'discarded' ELSE status END,
        closed_at = coalesce(closed_at, clock_timestamp()), closed_by = coalesce(closed_by, :erased)
    WHERE id = :id
    """
)
_FORGET_CLOSER: Final = text("UPDATE dead_letters SET closed_by = :erased, note = :erased WHERE closed_by = :subject")
# Not when the same record is there already without the name: then it was delivered once more.
_REWRITE: Final = text(
    """
    UPDATE dead_letters AS letter SET body = :body, body_sha256 = :digest
    WHERE id = :id AND NOT EXISTS (
        SELECT FROM dead_letters AS known
        WHERE known.topic = letter.topic AND known.partition = letter.partition AND known."offset" = letter."offset"
          AND known.body_sha256 = :digest AND known.id <> letter.id
    )
    """
)
_DELETE: Final = text("DELETE FROM dead_letters WHERE id = :id")
_PAGE: Final = 200
_MOST_STRINGS: Final = 10_000
_LONGEST_ID: Final = 6 * MAX_SUBJECT_CHARS
"""Bytes of an id in JSON: each character may be written as an escape."""


async def hold_letters(session: AsyncSession) -> None:
    """Wait for everybody who is storing letters, and have all others wait for this transaction."""
    await (await session.connection()).execute(_HOLD)


@dataclass(frozen=True)
class LettersErased:
    """What became of some letters.

    Attributes:
        up_to: The last of them; None: there are none left, and those that the user closed do not say so any more.
        rows: In how many the user was.
    """

    up_to: int | None
    rows: int


async def erase_letters(session: AsyncSession, subject: str, *, after: int) -> LettersErased:
    """Take a user out of some letters in the session's transaction.

    Args:
        session: With its transaction.
        subject: Whom.
        after: The last letter that was looked at before.
    """
    connection = await session.connection()
    values: dict[str, object] = {"after": after, "limit": _PAGE}
    values["plain"] = json.dumps(subject, ensure_ascii=False).encode(errors="surrogatepass")
    values["escaped"] = json.dumps(subject).encode()
    rows = (await connection.execute(_PART, values)).all()
    if not rows:
        closed = await connection.execute(_FORGET_CLOSER, {"subject": subject, "erased": ERASED})
        return LettersErased(None, closed.rowcount)
    erased = [
        await _erase_from(session, letter_id, bytes(body), subject) for letter_id, body in rows if body is not None
    ]
    return LettersErased(rows[-1][0], sum(erased))


async def withdraw_if_erased(session: AsyncSession, letter_id: int, body: bytes, erased: ErasedSubjects) -> bool:
    """Take the erased out of a letter that was just added; tells whether nothing of it is to be kept.

    After it was added, not before: so whoever erases this user either waits for it and finds it, or is seen here.
    """
    event = _event_in(body)
    gone = await erased.among(session, _strings_in(body) if event is None else people_of(event))
    if not gone:
        return False
    of_others = event is not None and event.data.task.owner_id not in gone
    if of_others and await _rewrite(session, letter_id, without(body, gone)):
        return False
    await (await session.connection()).execute(_DELETE, {"id": letter_id})
    return True


def people_of(event: TaskEvent) -> set[str]:
    """Give the ids of all whom an event names."""
    data = event.data
    return {data.task.owner_id, data.actor.id, *(data.recipients or ())}


def without(body: bytes, people: AbstractSet[str]) -> bytes:
    """Give an event that can be read, and names these people beside its owner, without them."""
    event = json.loads(body)
    data = event["data"]
    if data["actor"]["id"] in people:
        data["actor"]["id"] = ERASED
    if data.get("recipients") is not None:
        data["recipients"] = [person for person in data["recipients"] if person not in people]
    return json.dumps(event).encode()


async def _erase_from(session: AsyncSession, letter_id: int, body: bytes, subject: str) -> bool:
    connection = await session.connection()
    event = _event_in(body)
    if event is None or event.data.task.owner_id == subject:
        blank = {"id": letter_id, "no_digest": secrets.token_bytes(32), "erased": ERASED}
        await connection.execute(_BLANK, blank)
        return True
    if subject not in people_of(event):
        return False
    if not await _rewrite(session, letter_id, without(body, {subject})):
        await connection.execute(_DELETE, {"id": letter_id})
    return True


async def _rewrite(session: AsyncSession, letter_id: int, body: bytes) -> bool:
    values = {"id": letter_id, "body": body, "digest": hashlib.sha256(body).digest()}
    return bool((await (await session.connection()).execute(_REWRITE, values)).rowcount)


def _event_in(body: bytes) -> TaskEvent | None:
    try:
        return parse_task_event(body)
    except InvalidEventError:
        return None


def _strings_in(body: bytes) -> set[str]:
    """Give what may be an id in something that is no event, and may be no JSON: whatever is between two quotes."""
    found = set()
    for part in body.split(b'"', _MOST_STRINGS)[1:]:
        if 0 < len(part) <= _LONGEST_ID:
            try:
                found.add(str(json.loads(b'"%b"' % part)))
            except ValueError:  # it is cut off, or not UTF-8
                continue
    return found
