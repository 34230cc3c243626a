"""Deletes all that an owner has, with an event for each task: some tasks in each transaction.

Trees are not looked at: what is above and what is below goes anyhow.
"""

from datetime import datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.identity import Principal
from task_api.engagements.access import Recipients
from task_api.outbox.service import Outbox
from task_api.tasks.consequences import Change
from task_api.tasks.events import event_of
from task_api.tasks.repository import TaskRepository


class TaskClearance:
    """Deletes somebody's tasks."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def delete_some(
        self, by: Principal, session: AsyncSession, owner_id: str, recipients: Recipients, *, at: datetime, limit: int
    ) -> int:
        """Add the deletion of some tasks to the session's transaction; the caller commits, then calls `committed`.

        Args:
            by: Who deletes them.
            session: With its transaction.
            owner_id: Whose they are.
            recipients: Who is told.
            at: When.
            limit: Tasks at most.

        Returns:
            How many; 0 when none is left.
        """
        tasks = TaskRepository(session)
        found = await tasks.lock_some(owner_id, limit=limit)
        told = []
        for task in found:
            before = task.snapshot()
            task.deleted_at = task.updated_at = at
            task.version += 1
            told.append(event_of(by, Change(before, task), recipients))
        await tasks.save_many(found)
        await self._outbox.add_many(session, told)
        return len(found)

    def committed(self) -> None:
        """Tell those who wait for events."""
        self._outbox.committed()
