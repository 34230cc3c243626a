"""Writes the history: whatever leaves an event leaves its completion too, in the same transaction."""

from collections.abc import Sequence

from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.history.models import Completion
from task_api.history.repository import CompletionRepository
from task_events import TaskEventData

_FIELD = "completed"


class CompletionRecorder:
    """Finds completions and reopenings in what happened to tasks, whatever way they came about."""

    async def record(self, session: AsyncSession, events: Sequence[TaskEventData]) -> None:
        """Add what is in these events to the session's transaction: a statement for each of both kinds, if any.

        Args:
            session: In whose transaction the tasks have been written, new ones too.
            events: In any order; several may be of one task, which was then completed and reopened at once.
        """
        completed: list[Completion] = []
        reopened = []
        standing: dict[int, Completion] = {}
        for event in sorted(events, key=lambda one: one.task.version):
            change, task = event.changes.get(_FIELD), event.task
            if change is None:
                continue
            if task.completed:
                standing[task.id] = Completion(
                    owner_id=task.owner_id,
                    task_id=task.id,
                    series_id=task.id,  # the statement looks for the first of the series
                    title=task.title,
                    completed_at=task.completed_at or event.occurred_at,
                )
                completed.append(standing[task.id])
            elif task.id in standing:
                standing.pop(task.id).reopened_at = event.occurred_at
            elif change.old:  # not a new task, which is open without having been reopened
                reopened.append((task.id, event.occurred_at))
        history = CompletionRepository(session)
        await history.reopen_many(reopened)
        await history.add_many(completed)
