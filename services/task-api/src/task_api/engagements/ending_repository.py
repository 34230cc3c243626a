"""All SQL about engagements that were deleted and whose tasks are not yet."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

_TAKE: Final = text("SELECT pg_try_advisory_xact_lock(hashtextextended('end engagements', 0))")
_NEXT: Final = text(
    """
    SELECT id, deleted_by, deleted_corr_id, last_members FROM engagements
    WHERE deleted_at IS NOT NULL AND ended_at IS NULL
    ORDER BY id
    LIMIT 1
    """
)
# From now on nothing says who was in it, nor what it was.
_END: Final = text(
    """
    UPDATE engagements SET ended_at = now(), name = '', deleted_by = NULL, deleted_corr_id = NULL, last_members = NULL
    WHERE id = :id
    """
)


@dataclass(frozen=True)
class Gone:
    """An engagement that was deleted, and what the events of its tasks say."""

    engagement_id: int
    deleted_by: str
    corr_id: str
    members: tuple[str, ...]


class EndingRepository:
    """Engagements that are ending, in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def next_one(self) -> Gone | None:
        """Give an engagement with tasks left, perhaps; None when there is none, or another replica is at it.

        Not by its row: who writes a task of it at this moment may wait for that row, and we for the task.
        """
        connection = await self._session.connection()
        if not await connection.scalar(_TAKE):
            return None
        row = (await connection.execute(_NEXT)).first()
        return None if row is None else Gone(row[0], row[1] or "", row[2] or "", tuple(row[3] or ()))

    async def end(self, engagement_id: int) -> None:
        """Note that no task of it is left."""
        await (await self._session.connection()).execute(_END, {"id": engagement_id})
