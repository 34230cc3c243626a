"""The main job: a change becomes an audit entry and a notification, by way of Kafka."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from tests.e2e.coming_back import PATIENCE

from devstack.polling import within
from task_events import parse_task_event

if TYPE_CHECKING:
    from conftest import Collector, ExportedSpan
    from tests.e2e.conftest import Gauges, Person, Records

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e


async def test_a_task_that_is_created_and_completed_is_audited_and_notified(alice: "Person") -> None:
    task = await alice.create_task("Buy milk", priority="high")
    await alice.ask("POST", f"/tasks/{task['id']}/complete")
    created, completed = await alice.sees_versions_audited(task, 2)
    assert (created["type"], completed["type"]) == ("task.created", "task.completed")
    assert (created["actor"], created["task_id"]) == (alice.name, task["id"])
    assert created["changes"]["title"] == {"old": None, "new": "Buy milk"}
    assert completed["changes"]["completed"] == {"old": False, "new": True}
    newest, oldest = await alice.is_notified(2)
    assert (oldest["type"], newest["type"]) == ("task.created", "task.completed")
    assert "Buy milk" in newest["title"]


async def test_what_lies_in_kafka_is_a_cloudevent_anyone_can_read(
    alice: "Person", records_of: "Callable[[int, int], Awaitable[Records]]"
) -> None:
    task = await alice.create_task("Buy milk")
    task = await alice.change(task, title="Buy bread")
    first, second = await records_of(task["id"], 2)
    assert first.partition == second.partition
    envelope = json.loads(second.value or b"")
    assert {
        "specversion": "1.0",
        "type": "task.updated",
        "source": "/taskwire/task-api",
        "subject": str(task["id"]),
        "time": task["updated_at"],
        "datacontenttype": "application/json",
        "partitionkey": str(task["id"]),
        "topic": "tasks",
        "pubsubname": "pubsub",
    }.items() <= envelope.items()
    event = parse_task_event(second.value or b"")
    assert event.data.task.title == "Buy bread"
    assert event.data.changes["title"].old == "Buy milk"
    (_, entry) = await alice.sees_versions_audited(task, 2)
    assert entry["event_id"] == event.id


async def test_many_changes_of_many_tasks_arrive_once_and_in_order(alice: "Person") -> None:
    tasks = [await alice.create_task(f"task {number}") for number in range(5)]
    for round_number in range(10):
        for task in tasks:
            await alice.change(task, description=f"round {round_number}")
    for task in tasks:
        await alice.sees_versions_audited(task, 11)
    await alice.is_notified(55)


async def test_a_correlation_id_is_found_in_every_service(alice: "Person", stack: "RunningStack") -> None:
    alice.http.headers["X-Correlation-ID"] = f"story-{alice.name}"
    task = await alice.create_task()
    (entry,) = await alice.sees_versions_audited(task, 1)
    await alice.is_notified(1)
    assert entry["corr_id"] == f"story-{alice.name}"
    for service in ("task-api", "audit-worker", "notifier"):

        async def is_logged(service: str = service) -> bool:
            lines = [line for line in stack.log(service, 100_000) if alice.name in line and line.startswith("{")]
            return any(json.loads(line).get("corr_id") == f"story-{alice.name}" for line in lines)

        assert await within(PATIENCE, is_logged, 0.1), f"not in the log of {service}"


async def test_one_trace_leads_from_the_request_to_the_database_writes_of_both_consumers(
    alice: "Person", collector: "Collector"
) -> None:
    trace_id = uuid4().hex
    alice.http.headers["traceparent"] = f"00-{trace_id}-00f067aa0ba902b7-01"
    await alice.create_task()
    writes = {"audit-worker": "INSERT INTO audit_entries", "notifier": "INSERT INTO notifications"}
    stories: dict[str, list[Story]] = {}

    async def are_told() -> bool:
        for service, statement in writes.items():
            stories[service] = await asyncio.to_thread(_stories, list(collector.spans), trace_id, service, statement)
        return all(stories.values())

    assert await within(PATIENCE, are_told, 0.2), stories
    for story in stories.values():
        assert {told.request.parent_id for told in story} == {"00f067aa0ba902b7"}


class Story(NamedTuple):
    """What one change did, each span reached from the one before: as its child, or for `apply` by a link."""

    request: "ExportedSpan"
    kept: "ExportedSpan"
    publish: "ExportedSpan"
    process: "ExportedSpan"
    apply: "ExportedSpan"
    write: "ExportedSpan"


def _stories(spans: "list[ExportedSpan]", trace_id: str, service: str, statement: str) -> list[Story]:
    """Follow a trace, and the links of its spans to work that was done for several traces at once.

    An event may be published or delivered again, and the second time there is nothing to write: such a branch ends
    before the last span, and is no story.
    """
    of_trace = [span for span in spans if span.trace_id == trace_id]

    def children(of: "ExportedSpan", service: str, name: str) -> "Iterator[ExportedSpan]":
        return (one for one in of_trace if (one.parent_id, one.service, one.name) == (of.span_id, service, name))

    def statements(of: "ExportedSpan", text: str) -> "Iterator[ExportedSpan]":
        said = "db.query.text"
        return (one for one in spans if one.parent_id == of.span_id and text in one.attributes.get(said, ""))

    return [
        Story(request, kept, publish, process, apply, write)
        for request in of_trace
        if (request.service, request.name) == ("task-api", "POST /api/v1/tasks")
        for kept in statements(request, "INSERT INTO outbox")
        for publish in children(request, "task-api", "publish tasks")
        for process in children(publish, service, "process tasks")
        for apply in spans
        if (apply.service, apply.name) == (service, "apply tasks")
        if apply.parent_id == process.span_id or (process.span_id in apply.links and apply.span_id in process.links)
        for write in statements(apply, statement)
    ]


async def test_a_read_notification_stays_read(alice: "Person") -> None:
    await alice.create_task()
    (item,) = await alice.is_notified(1)
    assert item["read_at"] is None
    response = await alice.ask("POST", f"/notifications/{item['id']}/read", service="notifier")
    assert response.status_code == 200
    assert (await alice.notifications())[0]["read_at"] is not None


async def test_metrics_tell_what_happened(alice: "Person", gauges: "Gauges") -> None:
    counters: list[tuple[str, str, dict[str, str]]] = [
        ("task-api", "taskwire_outbox_published_total", {"result": "ok"}),
        ("audit-worker", "taskwire_inbox_events_total", {"verdict": "fresh"}),
        ("audit-worker", "taskwire_event_delay_seconds_count", {}),
        ("notifier", "taskwire_event_deliveries_total", {"status": "SUCCESS"}),
    ]

    async def counted() -> list[float]:
        return [await gauges.read(part, metric, **labels) for part, metric, labels in counters]

    before = await counted()
    await alice.create_task()

    async def all_have_grown() -> bool:
        # Each says so once it is done, and that is after its effect can be seen.
        return all(now > then for now, then in zip(await counted(), before, strict=True))

    assert await within(PATIENCE, all_have_grown, 0.2), (before, await counted())

    async def relay_leads() -> bool:
        closed = await gauges.read("task-api", "taskwire_breaker_state", call="dapr-publish") == 0
        return closed and await gauges.read("task-api", "taskwire_outbox_relay_leader") == 1

    assert await within(PATIENCE, relay_leads, 0.2)
