"""What becomes of events that the sidecar delivers together."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from sqlalchemy import event as sqlalchemy_events

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.chain import Head, verify_chain
from audit_worker.trail.schemas import AuditEntryOut
from chassis.event_samples import NEWER_DELIVERIES, SAMPLE
from chassis.testing import (
    PATIENCE,
    bearer,
    bulk_envelope,
    deliver,
    deliver_bulk,
    deliver_until_taken,
    make_task_event,
    post_events,
    serving,
    settings_for,
)
from devstack.polling import within
from task_events import TaskEvent

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def entries_of(client: httpx2.AsyncClient) -> list[AuditEntryOut]:
    response = await client.get("/api/v1/audit/entries?limit=500", headers=bearer("olga", "auditor"))
    assert response.status_code == 200
    return [AuditEntryOut.model_validate(item) for item in response.json()["items"]]


async def recorded(database: Database) -> list[tuple[int, int]]:
    rows = await database.fetch("SELECT task_id, task_version FROM audit_entries ORDER BY sequence")
    return [(row[0], row[1]) for row in rows]


@asynccontextmanager
async def statements_of(app: FastAPI) -> AsyncIterator[list[str]]:
    """Collect what is sent to the database, BEGIN and COMMIT apart."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)

    engine = app.state.database.engine.sync_engine
    sqlalchemy_events.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sqlalchemy_events.remove(engine, "before_cursor_execute", note)


async def test_a_batch_becomes_entries_in_its_order_in_one_chain(
    client: httpx2.AsyncClient, database: Database
) -> None:
    events = [make_task_event(task, version) for version in (1, 2, 3) for task in (5, 4, 6)]
    assert await deliver_bulk(client, *events) == ["SUCCESS"] * 9
    entries = await entries_of(client)
    assert [entry.event_id for entry in entries] == [event.id for event in events]
    head = Head(**dict(await database.fetchrow("SELECT sequence, hash FROM chain_head") or {}))
    assert verify_chain(entries, head=head) == []


async def test_a_batch_is_one_transaction(client: httpx2.AsyncClient, database: Database) -> None:
    await deliver_bulk(client, *(make_task_event(task) for task in range(1, 51)))
    for table in ("audit_entries", "inbox_events", "inbox_subjects"):
        assert await database.fetchval(f"SELECT count(DISTINCT xmin::text) FROM {table}") == 1


async def test_a_batch_of_hundred_takes_no_more_statements_than_one_event(
    client: httpx2.AsyncClient, app: FastAPI
) -> None:
    await deliver_bulk(client, make_task_event(1001))  # opens the connection, which asks the server some things
    async with statements_of(app) as one:
        await deliver_bulk(client, make_task_event(1000))
    async with statements_of(app) as hundred:
        await deliver_bulk(client, *(make_task_event(task) for task in range(1, 101)))
    assert len(hundred) == len(one) <= 6


async def test_alone_and_in_bulk_the_same_event_leaves_the_same(client: httpx2.AsyncClient, database: Database) -> None:
    await deliver(client, make_task_event(1, 2))
    await deliver_bulk(client, make_task_event(2, 2))
    rows = await database.fetch("SELECT version, verdict FROM inbox_events")
    assert {(row[0], row[1]) for row in rows} == {(2, "fresh")}
    assert len(rows) == 2
    one, other = (entry.model_dump() for entry in await entries_of(client))
    assert one.keys() == other.keys()
    assert one["changes"] == other["changes"]


async def test_an_event_that_is_twice_in_a_batch_leaves_one_entry_and_costs_nothing(
    client: httpx2.AsyncClient, app: FastAPI
) -> None:
    await deliver_bulk(client, make_task_event(9))
    event, other = make_task_event(1), make_task_event(2)
    async with statements_of(app) as statements:
        assert await deliver_bulk(client, event, other, event, event) == ["SUCCESS"] * 4
    assert len(statements) <= 6
    assert [entry.event_id for entry in await entries_of(client)][1:] == [event.id, other.id]


async def test_a_batch_that_is_delivered_again_in_part_changes_nothing(client: httpx2.AsyncClient) -> None:
    events = [make_task_event(1, version) for version in range(1, 7)]
    await deliver_bulk(client, *events[:4])
    assert await deliver_bulk(client, *events[2:]) == ["SUCCESS"] * 4
    assert [entry.task_version for entry in await entries_of(client)] == [1, 2, 3, 4, 5, 6]


async def test_a_reordered_batch_is_recorded_with_its_verdicts(client: httpx2.AsyncClient, database: Database) -> None:
    await deliver_bulk(client, *(make_task_event(1, version) for version in (2, 1, 4, 3)))
    assert await recorded(database) == [(1, 2), (1, 1), (1, 4), (1, 3)]
    rows = await database.fetch("SELECT version, verdict FROM inbox_events ORDER BY version")
    assert [row[1] for row in rows] == ["stale", "fresh", "stale", "fresh"]
    assert await database.fetchval("SELECT version FROM inbox_subjects") == 4


async def test_two_events_for_one_version_in_one_batch_are_both_kept_and_counted(client: httpx2.AsyncClient) -> None:
    metric = "taskwire_audit_version_conflicts_total"
    before = REGISTRY.get_sample_value(metric) or 0.0
    one, other = make_task_event(1, 1), make_task_event(1, 1, title="Buy bread")
    await deliver_bulk(client, one, other, make_task_event(2, 2), make_task_event(2, 1))
    assert {entry.event_id for entry in await entries_of(client)} >= {one.id, other.id}
    assert REGISTRY.get_sample_value(metric) == before + 1


async def test_concurrent_overlapping_batches_make_one_contiguous_chain(client: httpx2.AsyncClient) -> None:
    events = [make_task_event(task, version) for task in range(1, 9) for version in range(1, 6)]
    batches = []
    for seed in range(8):
        batch = events[seed * 3 : seed * 3 + 19]
        random.Random(seed).shuffle(batch)  # noqa: S311
        batches.append(batch)
    await asyncio.gather(*(deliver_until_taken(client, *batch) for batch in batches))
    entries = await entries_of(client)
    assert verify_chain(entries) == []
    assert sorted(entry.event_id for entry in entries) == sorted(event.id for event in events)


@pytest.mark.parametrize("kind", NEWER_DELIVERIES)
async def test_what_a_newer_publisher_adds_is_accepted(client: httpx2.AsyncClient, kind: str) -> None:
    assert await deliver_bulk(client, NEWER_DELIVERIES[kind]) == ["SUCCESS"]
    assert [entry.event_id for entry in await entries_of(client)] == [SAMPLE.id]


async def test_a_delivery_whose_envelope_cannot_be_read_is_answered_so_that_it_comes_again(
    client: httpx2.AsyncClient,
) -> None:
    for body in (b"", b"{", b"[]", b'{"entries": [{"entryId": 1}]}', SAMPLE.to_json()):
        response = await post_events(client, body)
        assert (response.status_code, response.json()) == (200, {"statuses": []})


async def test_an_entry_that_is_not_base64_is_a_dead_letter(client: httpx2.AsyncClient, database: Database) -> None:
    envelope = bulk_envelope([make_task_event(1), make_task_event(2)])
    entries = envelope["entries"]
    assert isinstance(entries, list)
    assert isinstance(entries[0], dict)
    entries[0]["event"] = "nö base64"

    async def is_taken() -> bool:
        response = await post_events(client, json.dumps(envelope).encode())
        return [status["status"] for status in response.json()["statuses"]] == ["SUCCESS", "SUCCESS"]

    assert await within(PATIENCE, is_taken, 0.2)
    assert await database.fetchval("SELECT body FROM dead_letters") == "nö base64".encode()


@pytest.mark.parametrize("token", [None, "", "wrong", "wröng"])
async def test_who_is_not_the_sidecar_is_refused_and_nothing_is_written(
    client: httpx2.AsyncClient, database: Database, token: str | None
) -> None:
    content = json.dumps(bulk_envelope([make_task_event()])).encode()
    response = await post_events(client, content, token=token)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert await recorded(database) == []


async def test_a_batch_waits_for_a_database_that_is_down() -> None:
    async with serving(create_app(settings_for(AuditWorkerSettings))) as client:
        assert await deliver_bulk(client, make_task_event(1), b"{", make_task_event(2)) == ["RETRY"] * 3


async def test_hundred_events_of_the_largest_size_are_taken(client: httpx2.AsyncClient) -> None:
    text = "ö" * 300_000
    events = [make_task_event(task, description=text) for task in range(1, 101)]
    content = json.dumps(bulk_envelope(events)).encode()
    assert len(content) > 64 * 1024 * 1024
    response = await post_events(client, content)
    assert response.status_code == 200


async def test_the_largest_integers_arrive_exactly(client: httpx2.AsyncClient) -> None:
    await deliver_bulk(client, make_task_event(2**63 - 1))
    [entry] = await entries_of(client)
    assert (entry.task_id, entry.task["id"]) == (2**63 - 1, str(2**63 - 1))


async def test_what_hides_in_base64_is_the_record_as_it_was(client: httpx2.AsyncClient) -> None:
    event: TaskEvent = make_task_event(title="Öl <€> & “x”")
    envelope = json.dumps(bulk_envelope([event]))
    assert base64.b64encode(event.to_json()).decode() in envelope
    assert await deliver_bulk(client, event) == ["SUCCESS"]
    assert (await entries_of(client))[0].task["title"] == "Öl <€> & “x”"
