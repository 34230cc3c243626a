"""For how long a deleted task can be restored; after that it is gone, whenever the purge comes to it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from task_api.tasks.models import Task


@dataclass(frozen=True)
class Retention:
    """For how many days deleted tasks are kept."""

    days: int

    def is_over(self, task: Task, *, now: datetime) -> bool:
        """Tell whether a task was deleted so long ago that it counts as purged."""
        return task.deleted_at is not None and now - task.deleted_at >= timedelta(days=self.days)
