"""Spans of what a consumer does with events: in each one's trace, or linked with it where many share a transaction."""

from datetime import UTC, datetime, timedelta

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from chassis.testing import deliver, deliver_bulk, deliver_until_taken, make_task_event, scrape, settings_for
from task_events import TaskEvent


@pytest.fixture
def app(exported: InMemorySpanExporter, database_url: str) -> FastAPI:
    """Made once it is known that spans are exported."""
    return create_app(settings_for(AuditWorkerSettings, database_url))


def traced(task: int, version: int = 1) -> TaskEvent:
    traceparent = f"00-{task:032x}-{version:016x}-01"
    return make_task_event(task, version).model_copy(update={"traceparent": traceparent})


def named(exported: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exported.get_finished_spans() if span.name == name]


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def id_of(span: ReadableSpan) -> int:
    return context_of(span).span_id


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


async def test_the_transaction_of_one_event_is_in_its_trace_with_every_statement(
    client: httpx2.AsyncClient, exported: InMemorySpanExporter
) -> None:
    await deliver_until_taken(client, traced(7))
    (process,) = named(exported, "process tasks")
    *_, apply = named(exported, "apply tasks")
    assert parent_of(process) == 1
    assert parent_of(apply) == id_of(process)
    statements = [span for span in exported.get_finished_spans() if parent_of(span) == id_of(apply)]
    assert any("INSERT INTO audit_entries" in str((span.attributes or {})["db.query.text"]) for span in statements)
    assert {context_of(span).trace_id for span in [process, apply, *statements]} == {7}
    assert not any("Buy milk" in span.to_json() for span in exported.get_finished_spans()), (
        "values are no one's business"
    )


async def test_one_transaction_for_three_events_is_linked_with_each_both_ways(
    client: httpx2.AsyncClient, exported: InMemorySpanExporter
) -> None:
    assert await deliver_bulk(client, traced(1), traced(2), traced(3)) == ["SUCCESS"] * 3
    events = named(exported, "process tasks")
    (apply,) = named(exported, "apply tasks")
    assert len(events) == 3
    assert parent_of(apply) is None
    assert linked(apply) == {id_of(span) for span in events}
    assert [linked(span) for span in events] == [{id_of(apply)}] * 3
    assert {context_of(span).trace_id for span in events} == {1, 2, 3}


async def test_a_statement_that_fails_is_an_error_without_its_values(
    client: httpx2.AsyncClient, exported: InMemorySpanExporter, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await database.execute("ALTER TABLE audit_entries ADD CHECK (task_id <> 7)")
    await deliver(client, traced(7))
    failed = [span for span in exported.get_finished_spans() if span.status.status_code is StatusCode.ERROR]
    assert {"apply tasks", "WITH"} == {(span.attributes or {}).get("db.operation.name", span.name) for span in failed}
    assert all((span.status.description or "").isidentifier() for span in failed), "the name of the error and no more"


async def test_statements_outside_a_trace_have_no_span(
    client: httpx2.AsyncClient, exported: InMemorySpanExporter
) -> None:
    response = await client.get("/health/ready")
    assert response.status_code == 200
    assert exported.get_finished_spans() == ()


async def test_the_delay_of_an_event_is_from_the_change_to_the_commit_and_duplicates_have_none(
    client: httpx2.AsyncClient,
) -> None:
    async def counted() -> tuple[float, float]:
        metric = "taskwire_event_delay_seconds"
        return await scrape(client, f"{metric}_count"), await scrape(client, f"{metric}_sum")

    count, total = await counted()
    event = make_task_event(1, occurred_at=datetime.now(UTC) - timedelta(minutes=10))
    await deliver_until_taken(client, event)
    await deliver_until_taken(client, event)
    now, sum_now = await counted()
    assert now - count == 1
    assert 600 <= sum_now - total < 800


async def test_a_failure_is_no_success(
    client: httpx2.AsyncClient, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async def last() -> float:
        return await scrape(client, "taskwire_event_last_success_timestamp_seconds")

    before = await last()
    await database.execute("ALTER TABLE inbox_events RENAME TO away")
    assert await deliver(client, make_task_event(1)) == ["RETRY"]
    assert await last() == before
    await database.execute("ALTER TABLE away RENAME TO inbox_events")
    await deliver_until_taken(client, make_task_event(1))
    assert before < await last() <= datetime.now(UTC).timestamp()


async def test_what_is_put_aside_is_no_standstill(client: httpx2.AsyncClient) -> None:
    async def last() -> float:
        return await scrape(client, "taskwire_event_last_success_timestamp_seconds")

    before = await last()
    await deliver_until_taken(client, b"no event of ours")
    assert before < await last()
