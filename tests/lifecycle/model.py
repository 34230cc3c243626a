"""What a person's tasks are, by the documentation alone (docs/api/task-model.md, docs/api/writing.md), in memory.

Nothing here knows how the service does it: it is what the service is compared with.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

MAX_DEPTH: Final = 5
DAILY: Final = {"rule": "FREQ=DAILY", "anchor": "due", "time_zone": "UTC"}
_EMPTY: Final[dict[str, Any]] = {
    "description": None,
    "priority": "medium",
    "due_at": None,
    "tags": [],
    "parent_id": None,
    "recurrence": None,
    "completed": False,
}
_COPIED: Final = ("title", "description", "priority", "tags", "parent_id")


class RefusedError(Exception):
    """The documentation says that this is refused."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


@dataclass
class ModelTask:
    """One task, with all that a caller can set."""

    fields: dict[str, Any]
    version: int = 1
    deleted_by: int | None = None
    """The request that deleted it; what one request deleted comes back together."""


@dataclass
class Model:
    """Somebody's tasks."""

    tasks: dict[int, ModelTask] = field(default_factory=dict)
    events: list[tuple[int, int, str]] = field(default_factory=list)
    """Task, version and type of every event that there has to be."""
    new: list[int] = field(default_factory=list)
    """Ids, below zero, of tasks whose real ids the service has yet to tell, in the order in which they were made."""
    request: int = 0

    def alive(self) -> dict[int, ModelTask]:
        """Give the tasks that are not deleted."""
        return {task_id: task for task_id, task in self.tasks.items() if task.deleted_by is None}

    def begin(self) -> "Model":
        """Start another request; what it does is in the copy, and lost when it is refused."""
        after = deepcopy(self)
        after.request += 1
        return after

    def create(self, draft: Mapping[str, Any]) -> None:
        """Make a task."""
        fields = _EMPTY | dict(draft)
        _check_recurrence(fields)
        if fields["parent_id"] is not None:
            self._check_parent(fields["parent_id"], None)
        self._add(ModelTask(fields))

    def name(self, made: Sequence[int]) -> None:
        """Call the new tasks what the service calls them."""
        names = dict(zip(self.new, made, strict=True))
        self.tasks = {names.get(task_id, task_id): task for task_id, task in self.tasks.items()}
        for task in self.tasks.values():
            task.fields["parent_id"] = names.get(task.fields["parent_id"], task.fields["parent_id"])
        self.events = [(names.get(task_id, task_id), version, kind) for task_id, version, kind in self.events]
        self.new = []

    def _add(self, task: ModelTask) -> None:
        self.new.append(-1 - len(self.new))
        self.tasks[self.new[-1]] = task
        self.events.append((self.new[-1], 1, "task.created"))

    def change(self, task_id: int, values: Mapping[str, Any]) -> None:
        """Set fields, with what follows from it."""
        task = self.there(task_id)
        before, fields = task.fields, task.fields | dict(values)
        if fields == before:
            return
        if fields["parent_id"] not in {None, before["parent_id"]}:
            self._check_parent(fields["parent_id"], task_id)
        if any(fields[name] != before[name] for name in ("due_at", "recurrence")):
            _check_recurrence(fields)
        completed = fields["completed"] and not before["completed"]
        upcoming = None
        if completed and fields["recurrence"] is not None:
            upcoming = _next(fields)
            fields["recurrence"] = None
        task.fields = fields
        switched = {True: "task.completed", False: "task.reopened"}
        kind = switched[fields["completed"]] if fields["completed"] != before["completed"] else "task.updated"
        self._changed(task_id, kind)
        for below in list(self._below(task_id, None)) if completed else ():
            if not self.tasks[below].fields["completed"]:
                self.tasks[below].fields["completed"] = True
                self._changed(below, "task.completed")
        if upcoming is not None:
            self._add(upcoming)

    def delete(self, task_id: int) -> None:
        """Delete a task and what is below it."""
        self.there(task_id)
        for one in [task_id, *self._below(task_id, None)]:
            self.tasks[one].deleted_by = self.request
            self._changed(one, "task.deleted")

    def restore(self, task_id: int) -> None:
        """Bring a task back, and what one request deleted below it."""
        task = self.tasks[task_id]
        if task.deleted_by is None:
            return
        along = list(self._below(task_id, task.deleted_by))
        if task.fields["parent_id"] not in self.alive():
            task.fields["parent_id"] = None
        else:
            self._check_parent(task.fields["parent_id"], task_id)
        for one in [task_id, *along]:
            self.tasks[one].deleted_by = None
            self._changed(one, "task.restored")

    def moved(self, task_id: int, position: str) -> None:
        """Note the place that the service gave a task."""
        task = self.there(task_id)
        if task.fields["position"] != position:  # it was there already
            task.fields["position"] = position
            self._changed(task_id, "task.updated")

    def check_version(self, task_id: int, version: int | None) -> None:
        """Refuse a change that was meant for another version."""
        if version is not None and version != self.tasks[task_id].version:
            raise RefusedError(412, "precondition_failed")

    def there(self, task_id: int) -> ModelTask:
        """Give a task, or refuse one that is deleted."""
        task = self.tasks[task_id]
        if task.deleted_by is not None:
            raise RefusedError(404, "task_not_found")
        return task

    def _changed(self, task_id: int, kind: str) -> None:
        self.tasks[task_id].version += 1
        self.events.append((task_id, self.tasks[task_id].version, kind))

    def _below(self, task_id: int, deleted_by: int | None) -> Iterator[int]:
        for child, task in self.tasks.items():
            if task.fields["parent_id"] == task_id and task.deleted_by == deleted_by:
                yield child
                yield from self._below(child, deleted_by)

    def _height(self, task_id: int, deleted_by: int | None) -> int:
        children = (
            child
            for child, task in self.tasks.items()
            if task.fields["parent_id"] == task_id and task.deleted_by == deleted_by
        )
        return 1 + max((self._height(child, deleted_by) for child in children), default=0)

    def _check_parent(self, parent_id: int, task_id: int | None) -> None:
        if parent_id not in self.alive():
            raise RefusedError(422, "invalid_parent")
        line = [parent_id]
        while (above := self.tasks[line[-1]].fields["parent_id"]) is not None:
            line.append(above)
        height = 1 if task_id is None else self._height(task_id, self.tasks[task_id].deleted_by)
        if task_id in line or len(line) + height > MAX_DEPTH:
            raise RefusedError(422, "invalid_parent")


def _check_recurrence(fields: Mapping[str, Any]) -> None:
    if fields["recurrence"] is not None and fields["due_at"] is None:
        raise RefusedError(422, "invalid_recurrence")


def _next(fields: Mapping[str, Any]) -> ModelTask:
    """Make the next task of one that comes every day, and is due in the future."""
    due = datetime.fromisoformat(fields["due_at"]).astimezone(UTC) + timedelta(days=1)
    copied = {name: fields[name] for name in (*_COPIED, "position")}
    return ModelTask(_EMPTY | copied | {"recurrence": DAILY, "due_at": due.isoformat().replace("+00:00", "Z")})
