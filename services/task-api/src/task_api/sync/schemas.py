"""What the feed says."""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from task_api.tasks.models import Task
from task_api.tasks.schemas import TaskOut

A_CURSOR: Final = "AQAAAAAAAAlzAAAAAAAAACoAAAAAAAAAAAAHrpDw0i5mDPN0cVfHPr1lB1x9iTuDJzv7Aw"
_MORNING: Final = "2027-01-31T08:00:00Z"
_A_TASK: Final[JsonDict] = {
    "id": 42,
    "title": "Pay rent",
    "description": None,
    "priority": "high",
    "due_at": "2027-02-01T09:00:00Z",
    "completed": False,
    "completed_at": None,
    "version": 2,
    "created_at": _MORNING,
    "updated_at": _MORNING,
}
_CHANGED: Final[JsonDict] = {"id": 42, "version": 2, "deleted_at": None, "task": _A_TASK}
_DELETED: Final[JsonDict] = {"id": 41, "version": 7, "deleted_at": _MORNING, "task": None}

A_STREAM: Final = (
    f"id: {A_CURSOR}\nretry: 1834\n\n"
    f'event: change\ndata: {{"id":41,"version":7,"deleted_at":"{_MORNING}","task":null}}\nid: {A_CURSOR}\n\n'
    ": heartbeat\n\n"
)


class TaskChange(BaseModel):
    """A task as it is now, or that it is gone."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CHANGED, _DELETED]})

    id: Annotated[int, Field(description="of the task")]
    version: Annotated[int, Field(description="of the task; one that is not above the copy's is old news")]
    deleted_at: Annotated[datetime | None, Field(description="when the task was deleted; null while it is there")]
    task: Annotated[TaskOut | None, Field(description="the whole task; null when it was deleted")]

    @classmethod
    def of(cls, task: Task) -> Self:
        """Show a task that changed."""
        shown = TaskOut.model_validate(task) if task.deleted_at is None else None
        return cls(id=task.id or 0, version=task.version, deleted_at=task.deleted_at, task=shown)


class TaskChanges(BaseModel):
    """A part of the feed, in the order of change; each task at most once, as it is now."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_CHANGED, _DELETED], "next_cursor": A_CURSOR, "has_more": False}]}
    )

    items: list[TaskChange]
    next_cursor: Annotated[str, Field(description="always there: pass as `cursor` next time", examples=[A_CURSOR])]
    has_more: Annotated[bool, Field(description="ask again at once; otherwise when you like")]
