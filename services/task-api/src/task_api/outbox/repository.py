"""All SQL about the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import insert, text
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.outbox.models import OutboxEvent

_LEADER_KEY: Final = 0x6F7574626F78  # "outbox" in ASCII
_MAX_ERROR_CHARS: Final = 500
_SET_BY_DATABASE: Final = {"attempts", "next_attempt_at", "last_error"}

_LEAD: Final = text("SELECT pg_try_advisory_xact_lock(:key)")
# At most one event of each task, its oldest, so that no batch and no retry can put two of them out of order.
# Not "id > last seen": a transaction that commits late would be skipped.
_DUE: Final = text(
    """
    SELECT id, aggregate_id, type, payload, traceparent, occurred_at, attempts
    FROM outbox AS event
    WHERE next_attempt_at <= now()
      AND NOT EXISTS (
          SELECT FROM outbox AS older
          WHERE older.aggregate_id = event.aggregate_id
            AND older.aggregate_version < event.aggregate_version
      )
    ORDER BY id
    LIMIT :limit
    """
)
_REMOVE: Final = text("DELETE FROM outbox WHERE id = ANY(:ids)")
_POSTPONE: Final = text(
    """
    UPDATE outbox
    SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => :delay), last_error = :error
    WHERE id = :id
    """
)
_BACKLOG: Final = text("SELECT count(*), min(occurred_at) FROM outbox")


@dataclass(frozen=True)
class Postponed:
    """An event that could not be sent: try again `delay` seconds from now."""

    id: UUID
    delay: float
    error: str


@dataclass(frozen=True)
class Backlog:
    """How many events wait, and since when the oldest does."""

    size: int
    oldest: datetime | None


class OutboxRepository:
    """The outbox in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, event: OutboxEvent) -> None:
        """Add an event to the transaction of its change."""
        self._session.add(event)

    async def add_many(self, events: Sequence[OutboxEvent]) -> None:
        """Add events by one statement."""
        rows = [event.model_dump(exclude=_SET_BY_DATABASE) for event in events]
        if rows:
            await (await self._session.connection()).execute(insert(OutboxEvent), rows)

    async def lead(self) -> bool:
        """Become the one relay until this transaction ends; False when another is.

        The lock is the transaction's and not the connection's: it works behind a transaction-mode pooler, and
        a relay that loses its connection loses the lock and its uncommitted deletes together.
        """
        connection = await self._session.connection()
        return bool(await connection.scalar(_LEAD, {"key": _LEADER_KEY}))

    async def due(self, limit: int) -> list[OutboxEvent]:
        """Give the oldest events that may be sent now."""
        connection = await self._session.connection()
        rows = (await connection.execute(_DUE, {"limit": limit})).mappings()
        return [OutboxEvent(**row) for row in rows]

    async def remove(self, ids: list[UUID]) -> None:
        """Forget events that Kafka has."""
        connection = await self._session.connection()
        await connection.execute(_REMOVE, {"ids": ids})

    async def postpone(self, event: Postponed) -> None:
        """Keep an event for a later try."""
        connection = await self._session.connection()
        row = {"id": event.id, "delay": event.delay, "error": event.error[:_MAX_ERROR_CHARS]}
        await connection.execute(_POSTPONE, row)

    async def backlog(self) -> Backlog:
        """Tell what waits."""
        connection = await self._session.connection()
        size, oldest = (await connection.execute(_BACKLOG)).one()
        return Backlog(size, oldest)
