"""What becomes of events that the sidecar delivers together."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from sqlalchemy import event as sqlalchemy_events
from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.chain import Head, verify_chain
from audit_worker.trail.schemas import AuditEntryOut
from audit_worker.trail.service import record_events
from chassis.consumer import DELIVERY_TIMEOUT, EventConsumer
from chassis.event_samples import MALFORMED_DELIVERIES, NEWER_DELIVERIES, SAMPLE
from chassis.inbox import ReceivedEvent
from chassis.subscriptions import BULK_TASKS_ROUTE
from chassis.testing import (
    bearer,
    bulk_envelope,
    deliver,
    deliver_bulk,
    make_task_event,
    post_event,
    serving,
    settings_for,
)
from task_events import TaskEvent

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
UNSTORABLE = "what this database refuses"


@pytest.fixture
async def picky(database: Database) -> None:
    """Have the database refuse one event: it fails by its own fault, whenever it is tried."""
    await database.execute(f"ALTER TABLE audit_entries ADD CONSTRAINT picky CHECK (task ->> 'title' <> '{UNSTORABLE}')")


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
    assert len(hundred) == len(one) <= 5


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
    assert len(statements) <= 5
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
    answers = await asyncio.gather(*(deliver_bulk(client, *batch) for batch in batches))
    assert {answer for batch in answers for answer in batch} == {"SUCCESS"}
    entries = await entries_of(client)
    assert verify_chain(entries) == []
    assert sorted(entry.event_id for entry in entries) == sorted(event.id for event in events)


@pytest.mark.parametrize("kind", MALFORMED_DELIVERIES)
async def test_what_is_no_event_of_ours_is_dropped_and_the_others_are_recorded(
    client: httpx2.AsyncClient, kind: str
) -> None:
    good = [make_task_event(1), make_task_event(2)]
    answers = await deliver_bulk(client, good[0], MALFORMED_DELIVERIES[kind], good[1])
    assert answers == ["SUCCESS", "DROP", "SUCCESS"]
    assert [entry.event_id for entry in await entries_of(client)] == [event.id for event in good]


@pytest.mark.parametrize("kind", NEWER_DELIVERIES)
async def test_what_a_newer_publisher_adds_is_accepted(client: httpx2.AsyncClient, kind: str) -> None:
    assert await deliver_bulk(client, NEWER_DELIVERIES[kind]) == ["SUCCESS"]
    assert [entry.event_id for entry in await entries_of(client)] == [SAMPLE.id]


async def test_after_a_retry_nothing_is_dropped_by_an_entry_id_that_is_not_its_place(
    client: httpx2.AsyncClient,
) -> None:
    bodies = (b"{", make_task_event(1), b"[]")
    assert await deliver_bulk(client, *bodies, entry_ids=["0", "2", "3"]) == ["DROP", "SUCCESS", "RETRY"]


@pytest.mark.usefixtures("picky")
@pytest.mark.parametrize("place", [0, 3, 6])
async def test_one_event_that_cannot_be_stored_is_retried_alone(
    client: httpx2.AsyncClient, database: Database, place: int
) -> None:
    events = [make_task_event(task) for task in range(1, 8)]
    events[place] = make_task_event(place + 1, title=UNSTORABLE)
    wanted = ["SUCCESS"] * 7
    wanted[place] = "RETRY"
    assert await deliver_bulk(client, *events) == wanted
    assert await recorded(database) == [(task, 1) for task in range(1, 8) if task != place + 1]
    assert verify_chain(await entries_of(client)) == []


@pytest.mark.usefixtures("picky")
async def test_what_follows_a_failed_event_in_its_task_waits_a_few_turns_for_it(
    client: httpx2.AsyncClient, database: Database
) -> None:
    batch = [
        make_task_event(1, 1),
        make_task_event(1, 2, title=UNSTORABLE),
        make_task_event(2, 1),
        make_task_event(1, 3),
        make_task_event(1, 4),
    ]
    assert await deliver_bulk(client, *batch) == ["SUCCESS", "RETRY", "SUCCESS", "RETRY", "RETRY"]
    assert await recorded(database) == [(1, 1), (2, 1)]
    left, ids = [batch[1], batch[3], batch[4]], ["1", "3", "4"]
    assert await deliver_bulk(client, *left, entry_ids=ids) == ["RETRY", "RETRY", "RETRY"]
    # Now it goes on without it, so that healthy events do not end in the dead-letter topic in its company.
    assert await deliver_bulk(client, *left, entry_ids=ids) == ["RETRY", "SUCCESS", "SUCCESS"]
    assert await recorded(database) == [(1, 1), (2, 1), (1, 3), (1, 4)]


async def test_a_delivery_whose_envelope_cannot_be_read_is_answered_so_that_it_comes_again(
    client: httpx2.AsyncClient,
) -> None:
    for body in (b"", b"{", b"[]", b'{"entries": [{"entryId": 1}]}', SAMPLE.to_json()):
        response = await post_event(client, body, route=BULK_TASKS_ROUTE)
        assert (response.status_code, response.json()) == (200, {"statuses": []})


async def test_an_entry_that_is_not_base64_is_dropped(client: httpx2.AsyncClient) -> None:
    envelope = bulk_envelope([make_task_event(1), make_task_event(2)])
    entries = envelope["entries"]
    assert isinstance(entries, list)
    assert isinstance(entries[0], dict)
    entries[0]["event"] = "nö base64"
    response = await post_event(client, json.dumps(envelope).encode(), route=BULK_TASKS_ROUTE)
    assert [status["status"] for status in response.json()["statuses"]] == ["DROP", "SUCCESS"]


@pytest.mark.parametrize("token", [None, "", "wrong", "wröng"])
async def test_who_is_not_the_sidecar_is_refused_and_nothing_is_written(
    client: httpx2.AsyncClient, database: Database, token: str | None
) -> None:
    content = json.dumps(bulk_envelope([make_task_event()])).encode()
    response = await post_event(client, content, token=token, route=BULK_TASKS_ROUTE)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert await recorded(database) == []


async def test_a_batch_waits_for_a_database_that_is_down() -> None:
    async with serving(create_app(settings_for(AuditWorkerSettings))) as client:
        assert await deliver_bulk(client, make_task_event(1), b"{", make_task_event(2)) == ["RETRY", "DROP", "RETRY"]


async def test_hundred_events_of_the_largest_size_are_taken(client: httpx2.AsyncClient) -> None:
    text = "ö" * 300_000
    events = [make_task_event(task, description=text) for task in range(1, 101)]
    content = json.dumps(bulk_envelope(events)).encode()
    assert len(content) > 64 * 1024 * 1024
    response = await post_event(client, content, route=BULK_TASKS_ROUTE)
    assert response.status_code == 200


async def test_the_largest_integers_arrive_exactly(client: httpx2.AsyncClient) -> None:
    await deliver_bulk(client, make_task_event(2**63 - 1))
    [entry] = await entries_of(client)
    assert (entry.task_id, entry.task["id"]) == (2**63 - 1, str(2**63 - 1))


class Failures:
    """Keeps what `on_failure` is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str | None, bytes, str]] = []

    async def __call__(self, event_id: str | None, body: bytes, reason: str) -> None:
        self.seen.append((event_id, body, reason))


@pytest.mark.usefixtures("picky")
async def test_the_reason_of_each_failed_event_is_told_with_its_bytes(app: FastAPI, client: httpx2.AsyncClient) -> None:
    failures = Failures()
    consumer = EventConsumer(app.state.database, record_events, failures)
    poison = make_task_event(2, title=UNSTORABLE)
    await consumer.consume([make_task_event(1).to_json(), b"{", poison.to_json()])
    assert [(event_id, body) for event_id, body, _ in failures.seen] == [(None, b"{"), (poison.id, poison.to_json())]
    assert "not a task event" in failures.seen[0][2]
    assert "picky" in failures.seen[1][2]


async def test_an_outage_is_no_failure_of_an_event() -> None:
    failures = Failures()
    app = create_app(settings_for(AuditWorkerSettings))
    consumer = EventConsumer(app.state.database, record_events, failures)
    assert await consumer.consume([make_task_event().to_json()]) == ["RETRY"]
    assert failures.seen == []


async def test_answers_stand_when_reasons_cannot_be_kept(app: FastAPI, client: httpx2.AsyncClient) -> None:
    async def broken(event_id: str | None, body: bytes, reason: str) -> None:
        raise RuntimeError("no room")

    async def slow(event_id: str | None, body: bytes, reason: str) -> None:
        await asyncio.sleep(60)

    for on_failure in (broken, slow):
        consumer = EventConsumer(app.state.database, record_events, on_failure)
        assert await consumer.consume([make_task_event(1).to_json(), b"{"]) == ["SUCCESS", "DROP"]


async def test_an_event_that_hangs_is_retried_alone_and_in_time(app: FastAPI, client: httpx2.AsyncClient) -> None:
    async def effect(session: AsyncSession, received: Sequence[ReceivedEvent]) -> None:
        if any(item.event.subject == "3" for item in received):
            await asyncio.sleep(60)

    consumer = EventConsumer(app.state.database, effect)
    bodies = [make_task_event(task).to_json() for task in range(1, 7)]
    async with asyncio.timeout(DELIVERY_TIMEOUT + 0.8):
        answers = await consumer.consume(bodies)
    assert answers == ["SUCCESS", "SUCCESS", "RETRY", "SUCCESS", "SUCCESS", "SUCCESS"]


async def test_what_hides_in_base64_is_the_record_as_it_was(client: httpx2.AsyncClient) -> None:
    event: TaskEvent = make_task_event(title="Öl <€> & “x”")
    envelope = json.dumps(bulk_envelope([event]))
    assert base64.b64encode(event.to_json()).decode() in envelope
    assert await deliver_bulk(client, event) == ["SUCCESS"]
    assert (await entries_of(client))[0].task["title"] == "Öl <€> & “x”"
