"""Dead letters of somebody who is erased: the letter stays, as a place where something failed, and says nothing.

The bytes of a letter may be anything. Of an event it is known whose it is; what cannot be read as one is taken for
the user's when their id is in it as a JSON string.
"""

import json
import secrets
from typing import Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.dead_letters.envelope import as_json
from chassis.erased_subjects import ErasedSubjects
from chassis.identity import ERASED
from task_events import InvalidEventError, parse_task_event

_HOLD: Final = text("LOCK TABLE dead_letters IN SHARE ROW EXCLUSIVE MODE")
_MENTIONING: Final = text(
    """
    SELECT id, body FROM dead_letters
    WHERE id > :after AND (position(CAST(:plain AS bytea) IN body) > 0 OR position(CAST(:escaped AS bytea) IN body) > 0)
    ORDER BY id LIMIT :limit
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
_DELETE: Final = text("DELETE FROM dead_letters WHERE id = :id")
_PAGE: Final = 50


async def hold_letters(session: AsyncSession) -> None:
    """Wait for everybody who is storing letters, and have all others wait for this transaction."""
    await (await session.connection()).execute(_HOLD)


async def erase_letters(session: AsyncSession, subject: str) -> int:
    """Blank all letters of a user in the session's transaction; gives how many there were."""
    connection = await session.connection()
    erased, after = 0, 0
    needles = {"plain": json.dumps(subject, ensure_ascii=False).encode(errors="surrogatepass")}
    needles["escaped"] = json.dumps(subject).encode()
    while rows := (await connection.execute(_MENTIONING, needles | {"after": after, "limit": _PAGE})).all():
        for letter_id, body in rows:
            after = letter_id
            people = people_of(bytes(body))
            if people is None or subject in people:
                blank = {"id": letter_id, "no_digest": secrets.token_bytes(32), "erased": ERASED}
                await connection.execute(_BLANK, blank)
                erased += 1
    closed = await connection.execute(_FORGET_CLOSER, {"subject": subject, "erased": ERASED})
    return erased + closed.rowcount


async def withdraw_if_erased(session: AsyncSession, letter_id: int, body: bytes, erased: ErasedSubjects) -> bool:
    """Delete a letter that was just added when it is of somebody erased; tells whether it was.

    After it was added, not before: so whoever erases this user either waits for it and finds it, or is seen here.
    """
    people = people_of(body) or _people_in(body)
    if not await erased.among(session, people):
        return False
    await (await session.connection()).execute(_DELETE, {"id": letter_id})
    return True


def people_of(body: bytes) -> set[str] | None:
    """Give the ids of those whom an event is about; None when it cannot be read."""
    try:
        event = parse_task_event(body)
    except InvalidEventError:
        return None
    return {event.data.task.owner_id, event.data.actor.id}


def _people_in(body: bytes) -> set[str]:
    """Give what looks like their ids in something that is nearly an event."""
    event = as_json(body)
    data = event.get("data") if isinstance(event, dict) else None
    found = []
    for holder, name in (("task", "owner_id"), ("actor", "id")):
        member = data.get(holder) if isinstance(data, dict) else None
        found.append(member.get(name) if isinstance(member, dict) else None)
    return {person for person in found if isinstance(person, str)}
