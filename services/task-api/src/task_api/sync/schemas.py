"""What the feed says."""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import BaseModel, Field
from pydantic.config import JsonDict

from chassis.errors import ApiError
from task_api.tasks.models import Task
from task_api.tasks.schemas import TaskOut

A_CURSOR: Final = "AQAAAAAAAAlzAAAAAAAAACoAAAAAAAAAAAAHrpDw0i5mDPN0cVfHPr1lB1x9iTuDJzv7Aw"
_MORNING: Final = "2027-01-31T08:00:00Z"
# Without null, which FastAPI takes out of examples.
_A_TASK: Final[JsonDict] = {
    "id": 42,
    "title": "Pay rent",
    "description": "By standing order",
    "priority": "high",
    "due_at": "2027-02-01T09:00:00Z",
    "tags": ["home"],
    "parent_id": 7,
    "recurrence": {"rule": "FREQ=MONTHLY", "anchor": "due", "time_zone": "Europe/Paris"},
    "position": "06441818e3a940",
    "completed": True,
    "completed_at": _MORNING,
    "version": 2,
    "created_at": _MORNING,
    "updated_at": _MORNING,
    "engagement_id": 5,
}

A_STREAM: Final = (
    f"id: {A_CURSOR}\nretry: 1834\n\n"
    f'event: change\ndata: {{"id":41,"version":7,"deleted_at":"{_MORNING}","task":null}}\nid: {A_CURSOR}\n\n'
    ": heartbeat\n\n"
)


class TaskChange(BaseModel):
    """A task as it is now, or that it is gone."""

    id: Annotated[int, Field(description="of the task", examples=[42])]
    version: Annotated[
        int, Field(description="of the task; one that is not above the copy's is old news", examples=[2])
    ]
    deleted_at: Annotated[datetime | None, Field(description="when the task was deleted; null while it is there")]
    task: Annotated[TaskOut | None, Field(description="the whole task; null when it was deleted", examples=[_A_TASK])]

    @classmethod
    def of(cls, task: Task) -> Self:
        """Show a task that changed."""
        shown = TaskOut.model_validate(task) if task.deleted_at is None else None
        return cls(id=task.id or 0, version=task.version, deleted_at=task.deleted_at, task=shown)


class StreamEnd(BaseModel):
    """Why a stream ends that cannot be resumed: the data of its last event, `end`."""

    code: Annotated[str, Field(examples=["engagement_forbidden"])]
    detail: Annotated[str, Field(examples=["You are not a member of engagement 5."])]

    @classmethod
    def of(cls, error: ApiError) -> Self:
        """Say what a request would be told now."""
        return cls(code=error.code, detail=error.detail)


class TaskChanges(BaseModel):
    """A part of the feed, in the order of change; each task at most once, as it is now."""

    items: list[TaskChange]
    next_cursor: Annotated[str, Field(description="always there: pass as `cursor` next time", examples=[A_CURSOR])]
    has_more: Annotated[bool, Field(description="ask again at once; otherwise when you like")]
