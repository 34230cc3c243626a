"""The only way out to Kafka: an event is added to the transaction of its change, the relay does the rest."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import new_id
from chassis.tracing import current_traceparent
from task_api.outbox.models import OutboxEvent
from task_api.outbox.repository import OutboxRepository
from task_events import ErasureRequested, TaskEventData, TaskEventType
from task_events.topics import ACCOUNTS_TOPIC


class Wakeable(Protocol):
    """What wants to know that something was committed."""

    def wake(self) -> None:
        """Look soon."""
        ...


class Recorder(Protocol):
    """What keeps a record of its own of what happened to tasks."""

    async def record(self, session: AsyncSession, events: Sequence[TaskEventData]) -> None:
        """Add it to the session's transaction, in which the tasks have been written."""
        ...


class Outbox:
    """Where features leave their events.

    Args:
        relay: Is told of commits.
        others: Are told too.
        recorder: Is given every event within its transaction, so that no way to change a task can forget its record.
    """

    def __init__(self, relay: Wakeable, *others: Wakeable, recorder: Recorder) -> None:
        self._relay, self._others, self._recorder = relay, others, recorder

    async def add_many(self, session: AsyncSession, events: Sequence[tuple[TaskEventType, TaskEventData]]) -> None:
        """Add events to the session's transaction in one round trip; the caller commits, then calls `committed`.

        They may be in any order: those of one task leave in the order of its versions.
        """
        await OutboxRepository(session).add_many([_row(event_type, data) for event_type, data in events])
        await self._recorder.record(session, [data for _, data in events])

    async def add_erasure_requested(self, session: AsyncSession, number: int, event: ErasureRequested) -> None:
        """Add the request to erase a user to the session's transaction; the caller commits, then calls `committed`.

        Args:
            session: In which the erasure was written.
            number: Of the erasure; attempts of it leave in their order.
            event: The request.
        """
        row = OutboxEvent(
            id=UUID(event.id),
            aggregate_type="account_erasure",
            aggregate_id=number,
            aggregate_version=event.data.attempt,
            topic=ACCOUNTS_TOPIC,
            key=event.subject,
            type=event.type.value,
            payload=event.data.model_dump(mode="json"),
            traceparent=event.traceparent,
            occurred_at=event.time,
        )
        await OutboxRepository(session).add_many([row])

    def committed(self) -> None:
        """Tell the relay and the streams of this process; should it die here, others find the change by polling."""
        for listener in (self._relay, *self._others):
            listener.wake()


def _row(event_type: TaskEventType, data: TaskEventData) -> OutboxEvent:
    return OutboxEvent(
        id=UUID(new_id()),
        aggregate_type="task",
        aggregate_id=data.task.id,
        aggregate_version=data.task.version,
        type=event_type.value,
        payload=data.model_dump(mode="json"),
        traceparent=current_traceparent(),
        occurred_at=data.occurred_at,
    )
