"""What else changes when a task does: its subtasks, and the next task of a recurring one. One transaction with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from chassis.errors import FieldProblem, InvalidInputError
from task_api.tasks.models import Task
from task_api.tasks.recurrence import StoredRecurrence, next_occurrence
from task_api.tasks.subtasks import Subtasks
from task_events import TaskSnapshot


class InvalidRecurrenceError(InvalidInputError):
    """The task cannot recur like this."""

    code = "invalid_recurrence"

    def __init__(self, message: str) -> None:
        super().__init__(f"recurrence {message}", errors=[FieldProblem(field="recurrence", message=message)])


@dataclass(frozen=True)
class Change:
    """A task that was changed, or made (`before` is None)."""

    before: TaskSnapshot | None
    task: Task


def merged(task: Task, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what a patch makes of a task: what is inside of `recurrence` is merged too (RFC 7396).

    Raises:
        InvalidRecurrenceError: The task had no recurrence, and the patch names no rule.
    """
    named = values.get("recurrence")
    if named is None:
        return values
    recurrence = {"anchor": "due", "time_zone": "UTC"} | (task.recurrence or {}) | named
    if "rule" not in recurrence:
        raise InvalidRecurrenceError("needs a rule")
    return {**values, "recurrence": recurrence}


def check_recurrence(task: Task, *, now: datetime) -> None:
    """Make sure that a recurring task will come again.

    Raises:
        InvalidRecurrenceError: It cannot.
    """
    if task.recurrence is None:
        return
    recurrence = cast("StoredRecurrence", task.recurrence)
    if recurrence["anchor"] == "due" and task.due_at is None:
        raise InvalidRecurrenceError("with the anchor due needs due_at, to count from")
    last = "COUNT=1" in recurrence["rule"].split(";")
    if not last and next_occurrence(recurrence, due_at=task.due_at, completed_at=now) is None:
        raise InvalidRecurrenceError("has no occurrence after this one before the year 2200")


def come_again(task: Task, *, at: datetime) -> Task | None:
    """Make the next task of a recurring one that is being completed; the rule moves on to it.

    So the rule is in one open task at any time: completed, reopened and completed again, a task does not make two.
    """
    if task.recurrence is None:
        return None
    found = next_occurrence(cast("StoredRecurrence", task.recurrence), due_at=task.due_at, completed_at=at)
    if found is None:
        return None
    task.recurrence = None
    return Task(
        owner_id=task.owner_id,
        title=task.title,
        description=task.description,
        priority=task.priority,
        tags=list(task.tags),
        position=task.position,
        parent_id=task.parent_id,
        due_at=found.due_at,
        recurrence=dict(cast("dict[str, str]", found.recurrence)),
        series_id=task.series_id or task.id,
        created_at=at,
        updated_at=at,
    )


async def consequences(subtasks: Subtasks, before: TaskSnapshot, task: Task, *, at: datetime) -> list[Change]:
    """Check what a changed task asks for, and do what follows from it; new tasks are yet to be inserted.

    Args:
        subtasks: Of the owner. The change of the task must not have been written yet.
        before: The task before the change.
        task: The task after it.
        at: The moment of the change.

    Raises:
        InvalidParentError: It cannot be a subtask of that task.
        InvalidRecurrenceError: It cannot recur like that.
    """
    restored = before.deleted_at is not None and task.deleted_at is None
    if restored and task.parent_id is not None and not await subtasks.hold_parent(task.parent_id):
        task.parent_id = None  # what it was below is gone
    if task.parent_id is not None and (restored or task.parent_id != before.parent_id):
        await subtasks.check_parent(task.parent_id, before)
    if task.due_at != before.due_at or task.recurrence != _recurrence_of(before):
        check_recurrence(task, now=at)
    upcoming = come_again(task, at=at) if task.completed and not before.completed else None
    further = await _take_along(subtasks, before, task, at=at)
    return further if upcoming is None else [*further, Change(None, upcoming)]


def _recurrence_of(snapshot: TaskSnapshot) -> dict[str, Any] | None:
    return None if snapshot.recurrence is None else snapshot.recurrence.model_dump()


async def _take_along(subtasks: Subtasks, before: TaskSnapshot, task: Task, *, at: datetime) -> list[Change]:
    """Complete, delete or restore what is below a task that was completed, deleted or restored; else nothing.

    Below a completed task nothing comes again: it would be open below what is done.
    """
    switched = task.deleted_at != before.deleted_at
    if not switched and (before.completed or not task.completed):
        return []
    changes = []
    for below in await subtasks.lock_below(before.id, before.deleted_at):
        if not switched and below.completed:
            continue
        changes.append(Change(below.snapshot(), below))
        if switched:
            below.deleted_at = task.deleted_at  # the very moment: who restores this one finds by it what went along
        else:
            below.completed, below.completed_at = True, at
        below.version += 1
        below.updated_at = at
    return changes
