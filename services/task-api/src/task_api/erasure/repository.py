"""All SQL about erasures but that of their steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.engagements.spaces import owner_of
from task_api.erasure.models import AccountErasure, ErasureConfirmation

_ADD: Final = text(
    """
    INSERT INTO account_erasures (id, subject, subject_digest, corr_id, requested_at, asked_at)
    VALUES (:id, :subject, :digest, :corr_id, now(), now())
    ON CONFLICT DO NOTHING
    RETURNING number, requested_at
    """
)
_CONFIRM: Final = text(
    """
    INSERT INTO account_erasure_confirmations (erasure_id, service, confirmed_at)
    SELECT id, :service, :confirmed_at FROM account_erasures WHERE id = :id AND subject_digest = :digest
    ON CONFLICT DO NOTHING
    """
)
_OPEN: Final = text(
    """
    SELECT requested_at, id FROM account_erasures
    WHERE erased_at IS NULL AND (requested_at, id) > (CAST(:at AS timestamptz), CAST(:id AS uuid))
    ORDER BY requested_at, id LIMIT :limit
    """
)
_TAKE: Final = text(
    """
    SELECT number, subject, engagements, corr_id, requested_at, attempt,
           extract(epoch FROM clock_timestamp() - requested_at)::float8 AS age,
           extract(epoch FROM clock_timestamp() - asked_at)::float8 AS asked,
           ARRAY(SELECT service FROM account_erasure_confirmations WHERE erasure_id = id) AS confirmed,
           fence_xid IS NOT NULL AND pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= fence_xid AS fenced
    FROM account_erasures WHERE id = :id AND erased_at IS NULL
    FOR UPDATE SKIP LOCKED
    """
)
# In a transaction that began after the request was committed. Whoever did not see the request had a transaction id by
# the time it looked (the triggers fire after the row is there), so that id is below this one.
_FENCE: Final = text(
    """
    UPDATE account_erasures SET fence_xid = pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    WHERE id = :id AND fence_xid IS NULL
    """
)
_ASK_AGAIN: Final = text(
    "UPDATE account_erasures SET attempt = attempt + 1, asked_at = clock_timestamp() WHERE id = :id"
)
# In which nobody else was when they were deleted, by the user or with them; not those whose tasks are all deleted.
_NOTE_ENGAGEMENTS: Final = text(
    """
    UPDATE account_erasures SET engagements = ARRAY(
        SELECT id FROM engagements
        WHERE deleted_at IS NOT NULL AND ended_at IS NULL
          AND deleted_by = :subject AND last_members <@ ARRAY[CAST(:subject AS text)]
        ORDER BY id
    )
    WHERE id = :id
    RETURNING engagements
    """
)
# Events that name the user, and engagements whose tasks are still to be deleted with such events.
_UNSENT: Final = text(
    """
    SELECT EXISTS (
        SELECT FROM outbox WHERE aggregate_type = 'task'
          AND (payload->'task'->>'owner_id' = ANY(:owners) OR payload->'actor'->>'id' = :subject
               OR jsonb_exists(payload->'recipients', :subject))
    ) OR EXISTS (
        SELECT FROM engagements
        WHERE deleted_at IS NOT NULL AND ended_at IS NULL AND (deleted_by = :subject OR :subject = ANY(last_members))
    )
    """
)
_FORGET_REQUESTS: Final = text("DELETE FROM outbox WHERE aggregate_type = 'account_erasure' AND aggregate_id = :number")
_FINISH: Final = text(
    """
    UPDATE account_erasures SET erased_at = clock_timestamp(), subject = NULL, corr_id = '', engagements = '{}'
    WHERE id = :id
    """
)
_STATE: Final = text(
    """
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(requested_at)), 0)::float8
    FROM account_erasures WHERE erased_at IS NULL
    """
)
_DIGESTS: Final = text(
    """
    SELECT subject_digest FROM account_erasures
    WHERE CAST(:everything AS boolean) OR requested_at > clock_timestamp() - interval '10 minutes'
    """
)


class Place(NamedTuple):
    """Where an erasure stands among all of them."""

    requested_at: datetime
    erasure_id: UUID


BEFORE_ALL: Final = Place(datetime.min.replace(tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True)
class OpenErasure:
    """An erasure that goes on, held by the transaction.

    Attributes:
        engagements: Those that ended with the user.
        age: Seconds since the request.
        asked: Seconds since the services were asked last.
        confirmed: Who is done.
        fenced: Whether all transactions that may not have seen the request have ended.
    """

    number: int
    subject: str
    engagements: tuple[int, ...]
    corr_id: str
    requested_at: datetime
    attempt: int
    age: float
    asked: float
    confirmed: frozenset[str]
    fenced: bool

    @property
    def owners(self) -> list[str]:
        """Whose things go: the user's, and those of engagements that nobody else was in."""
        return [self.subject, *map(owner_of, self.engagements)]


class ErasureRepository:
    """Erasures in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, erasure_id: UUID, subject: str, digest: bytes, corr_id: str) -> tuple[int, datetime] | None:
        """Begin an erasure; gives its number and time, or None when there is one of this user."""
        values = {"id": erasure_id, "subject": subject, "digest": digest, "corr_id": corr_id}
        row = (await (await self._session.connection()).execute(_ADD, values)).one_or_none()
        return None if row is None else (int(row[0]), row[1])

    async def of_user(self, digest: bytes) -> AccountErasure | None:
        """Give the erasure of a user."""
        statement = select(AccountErasure).where(col(AccountErasure.subject_digest) == digest)
        return (await self._session.exec(statement)).one_or_none()

    async def get(self, erasure_id: UUID) -> AccountErasure | None:
        """Give an erasure, whosever it is."""
        return await self._session.get(AccountErasure, erasure_id)

    async def confirmations(self, erasure_id: UUID) -> dict[str, datetime]:
        """Give which services are done, and since when."""
        statement = select(ErasureConfirmation).where(col(ErasureConfirmation.erasure_id) == erasure_id)
        return {row.service: row.confirmed_at for row in (await self._session.exec(statement)).all()}

    async def confirm(self, erasure_id: UUID, digest: bytes, service: str, confirmed_at: datetime) -> bool:
        """Note that a service is done; False when that is known or there is no such erasure of this user."""
        values = {"id": erasure_id, "digest": digest, "service": service, "confirmed_at": confirmed_at}
        return bool((await (await self._session.connection()).execute(_CONFIRM, values)).rowcount)

    async def open_after(self, place: Place, limit: int) -> Sequence[Place]:
        """Give erasures that go on, oldest first, of those behind a place among them."""
        values = {"at": place.requested_at, "id": place.erasure_id, "limit": limit}
        return [Place(*row) for row in await (await self._session.connection()).execute(_OPEN, values)]

    async def take(self, erasure_id: UUID) -> OpenErasure | None:
        """Hold an erasure; None when it is done or another replica holds it."""
        row = (await (await self._session.connection()).execute(_TAKE, {"id": erasure_id})).one_or_none()
        if row is None:
            return None
        return OpenErasure(
            **row._asdict() | {"engagements": tuple(row.engagements), "confirmed": frozenset(row.confirmed)}
        )

    async def fence(self, erasure_id: UUID) -> None:
        """Note from which transaction on everybody sees the request."""
        await (await self._session.connection()).execute(_FENCE, {"id": erasure_id})

    async def ask_again(self, erasure_id: UUID) -> None:
        """Count one more attempt."""
        await (await self._session.connection()).execute(_ASK_AGAIN, {"id": erasure_id})

    async def note_engagements(self, erasure_id: UUID, subject: str) -> list[int]:
        """Note, and give, which engagements ended with the user."""
        values = {"id": erasure_id, "subject": subject}
        return list((await (await self._session.connection()).execute(_NOTE_ENGAGEMENTS, values)).scalar_one())

    async def has_unsent(self, erasure: OpenErasure) -> bool:
        """Tell whether events that name the user are still to be sent, or to be made."""
        values = {"subject": erasure.subject, "owners": erasure.owners}
        return bool(await (await self._session.connection()).scalar(_UNSENT, values))

    async def finish(self, erasure_id: UUID, number: int) -> None:
        """Forget who it was."""
        connection = await self._session.connection()
        await connection.execute(_FORGET_REQUESTS, {"number": number})
        await connection.execute(_FINISH, {"id": erasure_id})

    async def state(self) -> tuple[int, float]:
        """Tell how many erasures go on, and the age of the oldest in seconds."""
        count, age = (await (await self._session.connection()).execute(_STATE)).one()
        return int(count), float(age)

    async def digests(self, *, everything: bool) -> set[bytes]:
        """Give the digests of users who are erased or being erased: of all, or of those of the last minutes."""
        rows = await (await self._session.connection()).scalars(_DIGESTS, {"everything": everything})
        return {bytes(digest) for digest in rows}
