"""All SQL that reads gaps for a caller; the inbox writes them."""

from sqlalchemy import ColumnElement, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.gaps.models import GAPS, StoredGap


def _matching(task_id: int | None, is_open: bool | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if task_id is not None:
        conditions.append(GAPS.c.subject == str(task_id))
    if is_open is not None:
        conditions.append(GAPS.c.closed_at.is_(None) if is_open else GAPS.c.closed_at.is_not(None))
    return conditions


class GapRepository:
    """Gaps in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(
        self, *, task_id: int | None, is_open: bool | None, after: int | None, limit: int
    ) -> list[StoredGap]:
        """Give gaps in the order they were stored; `after` is the last id of the page before."""
        statement = select(GAPS).where(*_matching(task_id, is_open))
        if after is not None:
            statement = statement.where(GAPS.c.id > after)
        connection = await self._session.connection()
        rows = await connection.execute(statement.order_by(GAPS.c.id).limit(limit))
        return [StoredGap(**row) for row in rows.mappings()]

    async def count(self, *, task_id: int | None, is_open: bool | None) -> int:
        """Count what `page` would go through."""
        statement = select(func.count()).select_from(GAPS).where(*_matching(task_id, is_open))
        connection = await self._session.connection()
        return int((await connection.execute(statement)).scalar_one())
