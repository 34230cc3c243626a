"""All SQL of the purge. It goes through features: what belongs to a task goes with it."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

_DUE: Final = text(
    """
    SELECT id FROM tasks
    WHERE deleted_at < now() - make_interval(days => :days) - interval '1 hour'
      AND NOT EXISTS (SELECT FROM outbox WHERE outbox.aggregate_id = tasks.id AND outbox.aggregate_type = 'task')
      AND NOT EXISTS (SELECT FROM tasks AS below WHERE below.parent_id = tasks.id)
    ORDER BY deleted_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
    """
)
"""An hour later than a restore is refused, so that nobody restores half of a tree, however far clocks are apart."""
# Task by task, and then by the places of the rows: by index, however much there is. For `task_id = ANY(…) LIMIT` the
# planner hopes to meet enough rows soon and reads the table from its beginning. Nobody else writes what belongs to a
# deleted task, so the places stay.
_DELETE_PARTS: Final = """
    DELETE FROM {table} WHERE ctid = ANY (ARRAY(
        SELECT part.place
        FROM unnest(CAST(:task_ids AS bigint[])) AS due(task_id)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM {table} WHERE {table}.task_id = due.task_id LIMIT :limit
        ) AS part
        LIMIT :limit
    ))
"""
PARTS: Final = ("comments", "completions")
_PARTS: Final = {table: text(_DELETE_PARTS.format(table=table)) for table in PARTS}
_TASKS: Final = text("DELETE FROM tasks WHERE id = ANY(:task_ids)")


class PurgeRepository:
    """What is to be purged, in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def take_due(self, *, days: int, limit: int) -> list[int]:
        """Give tasks that were deleted more than so many days ago, and hold them until the transaction ends.

        Left out are those with events that have not left, those with tasks below them (whose turn comes first), and
        those that somebody else holds, another replica's purge for example.
        """
        connection = await self._session.connection()
        return list((await connection.execute(_DUE, {"days": days, "limit": limit})).scalars())

    async def delete_parts(self, table: str, task_ids: Sequence[int], *, limit: int) -> int:
        """Delete so many rows at most of a table that belong to tasks; gives how many there were."""
        connection = await self._session.connection()
        return (await connection.execute(_PARTS[table], {"task_ids": list(task_ids), "limit": limit})).rowcount

    async def delete_tasks(self, task_ids: Sequence[int]) -> int:
        """Delete tasks that nothing belongs to any more; gives how many there were."""
        connection = await self._session.connection()
        return (await connection.execute(_TASKS, {"task_ids": list(task_ids)})).rowcount
