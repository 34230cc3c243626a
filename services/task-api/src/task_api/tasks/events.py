"""What the event of a change says."""

from typing import Final

from chassis.correlation import current_corr_id
from chassis.identity import Principal
from task_api.engagements.access import Recipients
from task_api.tasks.consequences import Change
from task_api.tasks.models import Task
from task_events import Actor, FieldChange, TaskEventData, TaskEventType, TaskSnapshot

_NOT_REPORTED: Final = {
    "id",
    "owner_id",
    "engagement_id",
    "version",
    "created_at",
    "updated_at",
}  # told by the event itself


def event_of(user: Principal, change: Change, recipients: Recipients = None) -> tuple[TaskEventType, TaskEventData]:
    """Give the event of a change that a user made, as the outbox takes it; who is told, if not the owner."""
    after = change.task.snapshot()
    data = TaskEventData(
        task=after,
        changes=_changes(change.before, after),
        actor=Actor(id=user.id),
        occurred_at=change.task.updated_at,
        corr_id=current_corr_id(),
        recipients=recipients,
    )
    return _type_of(change.before, change.task), data


def _type_of(before: TaskSnapshot | None, task: Task) -> TaskEventType:
    """Name a change by what matters most about it."""
    if before is None:
        return TaskEventType.CREATED
    if task.deleted_at is not None:
        return TaskEventType.DELETED
    if before.deleted_at is not None:
        return TaskEventType.RESTORED
    if task.completed == before.completed:
        return TaskEventType.UPDATED
    return TaskEventType.COMPLETED if task.completed else TaskEventType.REOPENED


def _changes(before: TaskSnapshot | None, after: TaskSnapshot) -> dict[str, FieldChange]:
    new = after.model_dump(mode="json", exclude=_NOT_REPORTED)
    nothing = dict.fromkeys(new) | {"tags": [], "position": new["position"]}  # a position is given, not set
    old = before.model_dump(mode="json", exclude=_NOT_REPORTED) if before else nothing
    return {name: FieldChange(old=old[name], new=value) for name, value in new.items() if old[name] != value}
