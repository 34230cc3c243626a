"""Spans of the relay: one for each event in its trace, and one for the bulk publish that they share."""

from collections.abc import Sequence
from uuid import UUID

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext
from prometheus_client import REGISTRY

from chassis.correlation import new_id
from chassis.database import Database
from chassis.testing import PATIENCE, make_task_event
from task_api.outbox.models import OutboxEvent
from task_api.outbox.relay import Pass, Relay
from task_api.outbox.repository import OutboxRepository
from task_events import EncodedEvent, parse_task_event
from task_events.topics import ACCOUNTS_TOPIC, TASKS_TOPIC


class Taking:
    """Takes all events."""

    open_for = 0.0

    def __init__(self) -> None:
        self.events: list[EncodedEvent] = []

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        self.events += events


async def commit(database: Database, *tasks: int, topic: str = TASKS_TOPIC) -> None:
    """Commit the first event of tasks, each in a trace with the task's number."""
    async with database.session() as session:
        events = [make_task_event(task) for task in tasks]
        rows = [
            OutboxEvent(
                id=UUID(new_id()),
                topic=topic,
                aggregate_type="task",
                aggregate_id=int(event.subject),
                aggregate_version=1,
                type=event.type.value,
                payload=event.data.model_dump(mode="json"),
                traceparent=f"00-{int(event.subject):032x}-{1:016x}-01",
                occurred_at=event.data.occurred_at,
            )
            for event in events
        ]
        await OutboxRepository(session).add_many(rows)
        await session.commit()


def named(exported: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exported.get_finished_spans() if span.name == name]


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


async def test_a_bulk_publish_is_linked_with_each_event_both_ways(
    database: Database, exported: InMemorySpanExporter
) -> None:
    taking = Taking()
    await commit(database, 1, 2, 3)
    assert (
        await Relay(database, taking, batch_size=10, poll_interval=1, publish_timeout=PATIENCE).relay_once()
        is Pass.SENT
    )
    events = named(exported, "publish tasks")
    (relay,) = named(exported, "relay outbox")
    assert sorted(context_of(span).trace_id for span in events) == [1, 2, 3]
    assert {link.context.span_id for link in relay.links} == {context_of(span).span_id for span in events}
    for span in events:
        assert [link.context.span_id for link in span.links] == [context_of(relay).span_id]
    sent = {parse_task_event(event.body).traceparent for event in taking.events}
    assert sent == {f"00-{context_of(span).trace_id:032x}-{context_of(span).span_id:016x}-01" for span in events}


async def test_the_publish_of_one_event_is_in_its_trace(database: Database, exported: InMemorySpanExporter) -> None:
    await commit(database, 7)
    await Relay(database, Taking(), batch_size=10, poll_interval=1, publish_timeout=PATIENCE).relay_once()
    ((event,), (relay,)) = named(exported, "publish tasks"), named(exported, "relay outbox")
    assert relay.parent is not None
    assert relay.parent.span_id == context_of(event).span_id
    said = event.attributes or {}
    assert (said["messaging.operation.type"], said["messaging.destination.name"]) == ("send", TASKS_TOPIC)
    assert said["messaging.message.id"] == said["cloudevents.event_id"]
    assert context_of(relay).trace_id == 7


async def test_only_events_of_tasks_count_as_something_for_consumers_to_process(database: Database) -> None:
    def last() -> float:
        return REGISTRY.get_sample_value("taskwire_outbox_last_publish_timestamp_seconds") or 0.0

    relay = Relay(database, Taking(), batch_size=10, poll_interval=1, publish_timeout=PATIENCE)
    before = last()
    await commit(database, 1, topic=ACCOUNTS_TOPIC)
    assert await relay.relay_once() is Pass.SENT
    assert last() == before
    await commit(database, 2)
    assert await relay.relay_once() is Pass.SENT
    assert last() > before
