"""Deletes the tasks of engagements that were deleted, each with its event.

In batches, each one transaction: what a process that dies leaves behind, any replica goes on with. Nobody is in the
engagement any more by then, so nobody sees half of it, and nothing is added.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from typing import Final

from typing_extensions import override

from chassis.correlation import correlated
from chassis.database import Database, DatabaseUnavailableError
from chassis.identity import Principal
from chassis.logging import get_logger
from chassis.periodic import in_background
from task_api.engagements.ending_repository import EndingRepository, Gone
from task_api.engagements.service import Ending
from task_api.engagements.spaces import owner_of
from task_api.tasks.clearance import TaskClearance

_BATCH: Final = 500
_INTERVAL: Final = 30.0
_logger = get_logger(__name__)


class EngagementEnding(Ending):
    """The background work of this replica; all replicas may do it, one at a time does."""

    def __init__(self, database: Database, clearance: TaskClearance) -> None:
        self._database, self._clearance = database, clearance
        self._woken = asyncio.Event()

    @override
    def wake(self) -> None:
        """Look soon."""
        self._woken.set()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Delete in the background until the block ends."""
        return in_background("end-engagements", self._for_ever)

    async def run(self) -> int:
        """Delete all that is to be deleted now, batch by batch; gives the number of tasks."""
        deleted = 0
        while (batch := await self._batch()) is not None:
            deleted += batch
            if batch:
                self._clearance.committed()
        return deleted

    async def _batch(self) -> int | None:
        """Delete some tasks of one engagement, or note that none is left; None when there is nothing to do."""
        async with self._database.session() as session:
            engagements = EndingRepository(session)
            gone = await engagements.next_one()
            if gone is None:
                return None
            with correlated(corr_id=gone.corr_id):
                by, at = Principal(gone.deleted_by), datetime.now(UTC)
                owner = owner_of(gone.engagement_id)
                deleted = await self._clearance.delete_some(by, session, owner, gone.members, at=at, limit=_BATCH)
                if not deleted:
                    await self._end(engagements, gone)
                await session.commit()
            return deleted

    @staticmethod
    async def _end(engagements: EndingRepository, gone: Gone) -> None:
        await engagements.end(gone.engagement_id)
        _logger.info("engagement ended", engagement_id=gone.engagement_id)

    async def _for_ever(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.run()
            except DatabaseUnavailableError:
                pass
            except Exception:  # e.g. no table yet, before the migration
                _logger.exception("ending engagements failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL):
                    await self._woken.wait()
