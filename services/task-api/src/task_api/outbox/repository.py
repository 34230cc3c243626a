"""All SQL about the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import insert, text
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.outbox.models import OutboxEvent

_LEADER_KEY: Final = 0x6F7574626F78  # "outbox" in ASCII
_MAX_ERROR_CHARS: Final = 500
_MAX_BATCH_BYTES: Final = 2 * 1024 * 1024  # daprd takes 4 MiB in a call; an event has its envelope besides its payload
_SET_BY_DATABASE: Final = {"attempts", "next_attempt_at", "last_error"}

# The settings are of this transaction and cost no round trip of their own. A frozen leader keeps its connection; the
# first two end its transaction all the same: one when PostgreSQL waits for its next statement, the other when it cannot
# get rid of an answer, since nobody reads it and the socket's buffers are full. (The second one is for TCP alone;
# through a Unix socket it has no effect.) Between the parts of one statement neither applies: PostgreSQL 17 and later
# have a limit for the transaction as a whole.
# A plan that PostgreSQL keeps was made when the table was nearly empty, as it is most of the time. For a backlog it is
# hopeless (reading one batch out of 25,000 took longer than the statement timeout), so each batch gets its own.
_LEAD: Final = text(
    """
    SELECT pg_try_advisory_xact_lock(:key),
           set_config('idle_in_transaction_session_timeout', :patience, true),
           set_config('tcp_user_timeout', :patience, true),
           CASE WHEN current_setting('server_version_num')::int >= 170000
                THEN set_config('transaction_timeout', :limit, true) END,
           set_config('plan_cache_mode', 'force_custom_plan', true)
    """
)
# At most one event of each aggregate (a task, mostly), its oldest, so that no batch and no retry can put two out of
# order.
# Not "id > last seen": a transaction that commits late would be skipped.
_DUE: Final = text(
    """
    SELECT id, topic, coalesce(key, aggregate_id::text), type, payload, traceparent, occurred_at, attempts
    FROM (
        SELECT *, sum(octet_length(payload)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS bytes
        FROM (
            SELECT id, topic, key, aggregate_id, type, payload::text, traceparent, occurred_at, attempts
            FROM outbox AS event
            WHERE next_attempt_at <= now()
              AND id <> ALL(:in_flight)
              AND NOT EXISTS (
                  SELECT FROM outbox AS older
                  WHERE older.aggregate_id = event.aggregate_id
                    AND older.aggregate_type = event.aggregate_type
                    AND older.aggregate_version < event.aggregate_version
              )
            ORDER BY id
            LIMIT :limit
        ) AS due
    ) AS measured
    WHERE bytes <= :max_bytes OR bytes = octet_length(payload)
    ORDER BY id
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


class Unsent(NamedTuple):
    """An event as it is read to be sent: a backlog has many, so no more than what sending needs.

    Attributes:
        id: Of the event.
        topic: Where it belongs.
        key: Of its record, and its subject.
        type: Of the event.
        payload: Its data as JSON.
        traceparent: Of the request that made the change.
        occurred_at: When that was.
        attempts: How often it was refused.
    """

    id: UUID
    topic: str
    key: str
    type: str
    payload: str
    traceparent: str | None
    occurred_at: datetime
    attempts: int


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

    async def add_many(self, events: Sequence[OutboxEvent]) -> None:
        """Add events by one statement."""
        rows = [event.model_dump(exclude=_SET_BY_DATABASE) for event in events]
        if rows:
            await (await self._session.connection()).execute(insert(OutboxEvent), rows)

    async def lead(self, *, patience: float) -> bool:
        """Become the one relay until this transaction ends; False when another is.

        Args:
            patience: Seconds this process may keep PostgreSQL waiting before its transaction ends without it.

        The lock is the transaction's and not the connection's: it works behind a transaction-mode pooler, and
        a relay that loses its connection loses the lock and its uncommitted deletes together.
        """
        connection = await self._session.connection()
        milliseconds = round(patience * 1000)
        values = {"key": _LEADER_KEY, "patience": str(milliseconds), "limit": str(2 * milliseconds)}
        return bool(await connection.scalar(_LEAD, values))

    async def due(self, limit: int, *, in_flight: Sequence[UUID] = ()) -> list[Unsent]:
        """Give the oldest events that may be sent now, besides those that are being sent, and none of their tasks."""
        connection = await self._session.connection()
        values = {"limit": limit, "in_flight": list(in_flight), "max_bytes": _MAX_BATCH_BYTES}
        return [Unsent(*row) for row in await connection.execute(_DUE, values)]

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
