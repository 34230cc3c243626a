"""All SQL about the trail. Every statement that reads for a caller starts from `_visible`."""

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.trail.chain import Head
from audit_worker.trail.models import AuditEntry

# The clock of the database, read under the lock: one clock for all replicas, never behind the entry before.
_LOCK_HEAD: Final = text("SELECT sequence, hash, clock_timestamp() FROM chain_head WHERE id = 1 FOR UPDATE")
_MOVE_HEAD: Final = text("UPDATE chain_head SET sequence = :sequence, hash = :hash WHERE id = 1")


def _visible(owner_id: str | None, task_id: int | None) -> list[ColumnElement[bool]]:
    conditions = []
    if owner_id is not None:
        conditions.append(col(AuditEntry.owner_id) == owner_id)
    if task_id is not None:
        conditions.append(col(AuditEntry.task_id) == task_id)
    return conditions


class TrailRepository:
    """The trail in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock_head(self) -> tuple[Head, datetime]:
        """Hold the end of the chain until the transaction ends; appends take turns here.

        Returns:
            The head, and the time by the database's clock.
        """
        connection = await self._session.connection()
        sequence, digest, now = (await connection.execute(_LOCK_HEAD)).one()
        return Head(sequence, digest), now

    async def append(self, entry: AuditEntry) -> None:
        """Add an entry and make it the head, which the transaction must hold."""
        self._session.add(entry)
        await self._session.flush()
        connection = await self._session.connection()
        await connection.execute(_MOVE_HEAD, {"sequence": entry.sequence, "hash": entry.hash})

    async def has_version(self, task_id: int, task_version: int) -> bool:
        """Tell whether the trail already has an entry for this version of a task."""
        of_version = col(AuditEntry.task_version) == task_version
        statement = select(AuditEntry).where(*_visible(None, task_id), of_version).limit(1)
        return (await self._session.exec(statement)).first() is not None

    async def page(
        self, *, owner_id: str | None, task_id: int | None, after: int | None, limit: int
    ) -> list[AuditEntry]:
        """Give entries in the order of the chain; `after` is the last sequence of the page before."""
        statement = select(AuditEntry).where(*_visible(owner_id, task_id))
        if after is not None:
            statement = statement.where(col(AuditEntry.sequence) > after)
        statement = statement.order_by(col(AuditEntry.sequence)).limit(limit)
        return list((await self._session.exec(statement)).all())

    async def count(self, *, owner_id: str | None, task_id: int | None) -> int:
        """Count what `page` would go through."""
        statement = select(func.count()).select_from(AuditEntry).where(*_visible(owner_id, task_id))
        return (await self._session.exec(statement)).one()
