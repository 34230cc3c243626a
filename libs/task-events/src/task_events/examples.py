"""Events such as the publisher makes: the story of one task, the same in every document."""

import json
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import JsonValue

from task_events.accounts import ErasureConfirmed, ErasureConfirmedData, ErasureRequested, ErasureRequestedData
from task_events.cloudevents import TaskEvent
from task_events.models import Actor, FieldChange, TaskEventData, TaskEventType, TaskSnapshot
from task_events.topics import PUBSUB_NAME, TASKS_TOPIC

_CREATED_AT: Final = datetime(2026, 3, 1, 8, 30, 0, 125_000, tzinfo=UTC)
_TASK: Final = TaskSnapshot(
    id=7,
    owner_id="alice",
    title="Buy milk",
    description=None,
    priority="high",
    due_at=_CREATED_AT + timedelta(days=1),
    completed=False,
    completed_at=None,
    version=1,
    created_at=_CREATED_AT,
    updated_at=_CREATED_AT,
    deleted_at=None,
)
_NOT_REPORTED: Final = {"id", "owner_id", "version", "created_at", "updated_at"}


def example_events() -> list[TaskEvent]:
    """Give one event of each type: a task from its creation to its restoration."""
    before: TaskSnapshot | None = None
    events = []
    for minute, (event_type, changed) in enumerate(_story()):
        at = _CREATED_AT + timedelta(minutes=minute)
        after = _TASK.model_copy(update=_after(before) | changed | {"version": minute + 1, "updated_at": at})
        events.append(_event(event_type, at, before, after))
        before = after
    return events


def stored(event: TaskEvent) -> dict[str, JsonValue]:
    """Give an event as it lies in Kafka: the publisher's envelope and what Dapr adds to it."""
    return event.to_envelope() | {"topic": TASKS_TOPIC, "pubsubname": PUBSUB_NAME, "tracestate": ""}


def example_account_events() -> list[ErasureRequested | ErasureConfirmed]:
    """Give one event of each type on `accounts`: a request, and what a service says to it."""
    erasure_id, corr_id = "019ca847-0010-7000-8000-000000000010", "example-erasure"
    later = _CREATED_AT + timedelta(seconds=1)
    requested = ErasureRequestedData(erasure_id=erasure_id, corr_id=corr_id, requested_at=_CREATED_AT, attempt=1)
    confirmed = ErasureConfirmedData(erasure_id=erasure_id, corr_id=corr_id, service="notifier", confirmed_at=later)
    return [
        ErasureRequested(
            id="019ca847-0011-7000-8000-000000000011",
            source="/taskwire/task-api",
            subject="alice",
            time=_CREATED_AT,
            data=requested,
        ),
        ErasureConfirmed(
            id="019ca847-0012-7000-8000-000000000012",
            source="/taskwire/notifier",
            subject="alice",
            time=later,
            data=confirmed,
        ),
    ]


def stored_account_event(event: ErasureRequested | ErasureConfirmed) -> dict[str, JsonValue]:
    """Give an event about an account as it lies in Kafka."""
    encoded = event.encode()
    envelope: dict[str, JsonValue] = json.loads(encoded.body)
    return envelope | {"topic": encoded.topic, "pubsubname": PUBSUB_NAME, "tracestate": ""}


def _story() -> list[tuple[TaskEventType, dict[str, object]]]:
    def at(minute: int) -> datetime:
        return _CREATED_AT + timedelta(minutes=minute)

    return [
        (TaskEventType.CREATED, {}),
        (TaskEventType.UPDATED, {"title": "Buy milk and bread"}),
        (TaskEventType.COMPLETED, {"completed": True, "completed_at": at(2)}),
        (TaskEventType.REOPENED, {"completed": False, "completed_at": None}),
        (TaskEventType.DELETED, {"deleted_at": at(4)}),
        (TaskEventType.RESTORED, {"deleted_at": None}),
    ]


def _after(task: TaskSnapshot | None) -> dict[str, object]:
    return dict(task) if task else {}


def _event(event_type: TaskEventType, at: datetime, before: TaskSnapshot | None, after: TaskSnapshot) -> TaskEvent:
    number = after.version
    return TaskEvent(
        id=f"019ca847-{number:04x}-7000-8000-0000000000{number:02x}",
        type=event_type,
        subject=str(after.id),
        time=at,
        traceparent=f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{number:02x}-01",
        data=TaskEventData(
            task=after,
            changes=_changes(before, after),
            actor=Actor(id=after.owner_id),
            occurred_at=at,
            corr_id=f"example-{number}",
        ),
    )


def _changes(before: TaskSnapshot | None, after: TaskSnapshot) -> dict[str, FieldChange]:
    old = before.model_dump(mode="json") if before else {}
    return {
        name: FieldChange(old=old.get(name), new=value)
        for name, value in after.model_dump(mode="json").items()
        if name not in _NOT_REPORTED and value != old.get(name)
    }
