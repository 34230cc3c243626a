"""Deleted tasks go for good, with comments and history, once they cannot be restored any more.

In small transactions, each of which leaves the database in order: a process may die between any two lines, and the
next turn of any replica goes on. All replicas may purge at once; each takes what no other holds.
"""

from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Final

from prometheus_client import Counter as Metric

from chassis.database import Database
from chassis.logging import get_logger
from chassis.metrics import with_series
from chassis.periodic import repeating
from task_api.purge.repository import PARTS, PurgeRepository
from task_api.tasks.retention import Retention

_BATCH: Final = 200
_PARTS_AT_ONCE: Final = 1000
_INTERVAL: Final = 600.0

_purged = with_series(
    Metric("taskwire_purged_rows_total", "Rows that were deleted for good after their retention", ["table"]),
    *(*PARTS, "tasks"),
)
_logger = get_logger(__name__)


class Purge:
    """Deletes what has been deleted for long enough."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention

    async def run(self, database: Database) -> dict[str, int]:
        """Delete all that is due, batch by batch; gives the number of rows by table."""
        purged: Counter[str] = Counter()
        while batch := await self._batch(database):
            for table, rows in batch.items():
                _purged.labels(table).inc(rows)
            purged += batch
        if purged:
            _logger.info("purged deleted tasks", retention_days=self._retention.days, **purged)
        return dict(purged)

    async def _batch(self, database: Database) -> Counter[str]:
        """Delete some tasks with all that belongs to them: one transaction, of statements that are bounded each."""
        deleted: Counter[str] = Counter()
        async with database.session() as session:
            purge = PurgeRepository(session)
            task_ids = await purge.take_due(days=self._retention.days, limit=_BATCH)
            if not task_ids:
                return deleted
            for table in PARTS:
                while rows := await purge.delete_parts(table, task_ids, limit=_PARTS_AT_ONCE):
                    deleted[table] += rows
            deleted["tasks"] = await purge.delete_tasks(task_ids)
            await session.commit()
        return deleted


def purging_deleted_tasks(purge: Purge, database: Database) -> AbstractAsyncContextManager[None]:
    """Purge in the background; every replica may, none waits for another."""
    return repeating("purge-deleted-tasks", _INTERVAL, lambda: purge.run(database))
