"""What becomes of an event that the sidecar delivers."""

import asyncio
import json
import random
from typing import TypeAlias

import asyncpg
import httpx2
import pytest
from prometheus_client import REGISTRY

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.chain import Head, verify_chain
from audit_worker.trail.schemas import AuditEntryOut
from chassis.event_samples import MALFORMED_DELIVERIES, NEWER_DELIVERIES, SAMPLE, with_member
from chassis.testing import (
    bearer,
    bulk_envelope,
    deliver,
    deliver_until_taken,
    make_task_event,
    post_events,
    serving,
    settings_for,
)
from task_events import TaskEventType

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def entries_of(client: httpx2.AsyncClient) -> list[AuditEntryOut]:
    response = await client.get("/api/v1/audit/entries?limit=500", headers=bearer("olga", "auditor"))
    assert response.status_code == 200
    return [AuditEntryOut.model_validate(item) for item in response.json()["items"]]


def sample(metric: str) -> float:
    return REGISTRY.get_sample_value(metric) or 0.0


async def rows(database: Database) -> int:
    counts = [
        await database.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("audit_entries", "inbox_events", "inbox_subjects")
    ]
    return sum(int(count) for count in counts)


async def test_an_event_becomes_one_entry_that_says_all_of_it(client: httpx2.AsyncClient) -> None:
    event = make_task_event(
        7, 2, TaskEventType.COMPLETED, actor_id="bob", changes={"completed": (False, True)}, corr_id="c-1"
    )
    assert await deliver(client, event) == ["SUCCESS"]
    [entry] = await entries_of(client)
    assert entry.model_dump(
        exclude={"recorded_at", "hash", "task", "salt", "actor_salt", "actor_hash", "content_hash"}
    ) == {
        "sequence": 1,
        "event_id": event.id,
        "type": "task.completed",
        "task_id": 7,
        "task_version": 2,
        "owner_id": "alice",
        "actor": "bob",
        "changes": {"completed": {"old": False, "new": True}},
        "occurred_at": "2026-03-01T08:32:00.123456Z",
        "corr_id": "c-1",
        "prev_hash": "0" * 64,
    }
    assert entry.task == event.data.task.model_dump(mode="json")


async def test_a_duplicate_delivery_leaves_one_entry(client: httpx2.AsyncClient) -> None:
    event = make_task_event()
    assert await deliver(client, event, event, event) == ["SUCCESS"] * 3
    assert [entry.event_id for entry in await entries_of(client)] == [event.id]


async def test_one_event_delivered_many_times_at_once_leaves_one_entry(client: httpx2.AsyncClient) -> None:
    event = make_task_event()
    await asyncio.gather(*(deliver_until_taken(client, event) for _ in range(8)))
    assert len(await entries_of(client)) == 1


async def test_concurrent_deliveries_make_one_contiguous_chain(client: httpx2.AsyncClient, database: Database) -> None:
    events = [make_task_event(task, version) for task in range(1, 11) for version in range(1, 6)]
    random.Random(7).shuffle(events)  # noqa: S311
    await asyncio.gather(*(deliver_until_taken(client, event) for event in events))
    entries = await entries_of(client)
    assert [entry.sequence for entry in entries] == list(range(1, 51))
    assert {entry.event_id for entry in entries} == {event.id for event in events}
    head = Head(**dict(await database.fetchrow("SELECT sequence, hash FROM chain_head") or {}))
    assert verify_chain(entries, head=head) == []
    assert [entry.recorded_at for entry in entries] == sorted(entry.recorded_at for entry in entries)


async def test_a_stale_version_gets_its_entry_too(client: httpx2.AsyncClient, database: Database) -> None:
    late, early = make_task_event(1, 1), make_task_event(1, 2)
    assert await deliver(client, early, late) == ["SUCCESS"] * 2
    assert [entry.task_version for entry in await entries_of(client)] == [2, 1]
    verdict = await database.fetchval("SELECT verdict FROM inbox_events WHERE event_id = $1", late.id)
    assert verdict == "stale"


async def test_a_missing_version_is_counted_and_hides_nothing(client: httpx2.AsyncClient) -> None:
    before = sample("taskwire_inbox_missing_versions_total")
    await deliver(client, make_task_event(1, 1), make_task_event(1, 4))
    assert [entry.task_version for entry in await entries_of(client)] == [1, 4]
    assert sample("taskwire_inbox_missing_versions_total") == before + 2


async def test_two_events_for_one_version_are_both_kept_and_counted(client: httpx2.AsyncClient) -> None:
    before = sample("taskwire_audit_version_conflicts_total")
    one, other = make_task_event(1, 1), make_task_event(1, 1, title="Buy bread")
    assert await deliver(client, one, other) == ["SUCCESS"] * 2
    assert [entry.event_id for entry in await entries_of(client)] == [one.id, other.id]
    assert sample("taskwire_audit_version_conflicts_total") == before + 1


async def test_a_late_version_is_no_conflict(client: httpx2.AsyncClient) -> None:
    before = sample("taskwire_audit_version_conflicts_total")
    await deliver(client, make_task_event(1, 2), make_task_event(1, 1), make_task_event(2, 2))
    assert sample("taskwire_audit_version_conflicts_total") == before


@pytest.mark.parametrize("token", [None, "", "wrong", "wröng"])
async def test_who_is_not_the_sidecar_is_refused_and_nothing_is_written(
    client: httpx2.AsyncClient, database: Database, token: str | None
) -> None:
    response = await post_events(client, json.dumps(bulk_envelope([make_task_event()])).encode(), token=token)
    assert response.status_code == 403
    assert response.json()["code"] == "forbidden"
    assert await rows(database) == 0


@pytest.mark.parametrize("kind", MALFORMED_DELIVERIES)
async def test_what_is_no_event_of_ours_is_a_dead_letter_and_nothing_else(
    client: httpx2.AsyncClient, database: Database, kind: str
) -> None:
    assert await deliver(client, MALFORMED_DELIVERIES[kind]) == ["SUCCESS"]
    assert [row[0] for row in await database.fetch("SELECT body FROM dead_letters")] == [MALFORMED_DELIVERIES[kind]]
    assert await rows(database) == 0


@pytest.mark.parametrize("kind", NEWER_DELIVERIES)
async def test_what_a_newer_publisher_adds_is_accepted(client: httpx2.AsyncClient, kind: str) -> None:
    assert await deliver(client, NEWER_DELIVERIES[kind]) == ["SUCCESS"]
    assert [entry.event_id for entry in await entries_of(client)] == [SAMPLE.id]


@pytest.mark.parametrize("number", ["9007199254740993", "-123456789012345678901234567890", "1e300", "1e400", "NaN"])
async def test_numbers_no_double_holds_are_kept_as_text(client: httpx2.AsyncClient, number: str) -> None:
    body = with_member(SAMPLE, "data.changes", {"x": {"old": 0.1, "new": "@"}}).replace(b'"@"', number.encode())
    assert await deliver(client, body) == ["SUCCESS"]
    entries = await entries_of(client)
    new = entries[0].changes["x"]
    assert isinstance(new, dict)
    assert new["old"] == 0.1
    assert isinstance(new["new"], str)
    assert verify_chain(entries) == []


async def test_the_largest_task_id_is_recorded_exactly(client: httpx2.AsyncClient) -> None:
    await deliver(client, make_task_event(2**63 - 1))
    entries = await entries_of(client)
    assert entries[0].task_id == 2**63 - 1
    assert entries[0].task["id"] == str(2**63 - 1)
    assert verify_chain(entries) == []


async def test_an_event_waits_for_a_database_that_is_down() -> None:
    async with serving(create_app(settings_for(AuditWorkerSettings))) as client:
        assert await deliver(client, make_task_event()) == ["RETRY"]
        response = await client.get("/api/v1/audit/entries", headers=bearer("alice"))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("settings", "largest"),
    [(settings_for(AuditWorkerSettings), 100), (settings_for(AuditWorkerSettings, delivery_batch_size=7), 7)],
    ids=["default", "seven"],
)
async def test_daprd_is_told_to_deliver_records_as_they_are_and_together(
    settings: AuditWorkerSettings, largest: int
) -> None:
    async with serving(create_app(settings)) as client:
        subscriptions = (await client.get("/dapr/subscribe")).json()
    assert subscriptions == [
        {
            "pubsubname": "pubsub",
            "topic": "tasks",
            "route": "/events/tasks/bulk",
            "metadata": {"rawPayload": "true"},
            "deadLetterTopic": "audit-worker.dead-letters",
            "bulkSubscribe": {"enabled": True, "maxMessagesCount": largest, "maxAwaitDurationMs": 10},
        },
        {
            "pubsubname": "pubsub",
            "topic": "audit-worker.dead-letters",
            "route": "/events/dead-letters",
            "metadata": {"rawPayload": "true"},
        },
        {
            "pubsubname": "pubsub",
            "topic": "accounts",
            "route": "/events/accounts",
            "metadata": {"rawPayload": "true"},
        },
    ]
