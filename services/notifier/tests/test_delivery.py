"""What becomes of an event that the sidecar delivers."""

import asyncio
import json
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import httpx2
import pytest

from chassis.event_samples import MALFORMED_DELIVERIES, NEWER_DELIVERIES, SAMPLE
from chassis.testing import (
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
from notifier.app import create_app
from notifier.settings import NotifierSettings
from task_events import TaskEventType

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def inbox_of(client: httpx2.AsyncClient, user: str = "alice") -> list[dict[str, object]]:
    response = await client.get("/api/v1/notifications?limit=200", headers=bearer(user))
    assert response.status_code == 200
    items: list[dict[str, object]] = response.json()["items"]
    return items


async def rows(database: Database) -> int:
    counts = [
        await database.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("notifications", "inbox_events", "inbox_subjects")
    ]
    return sum(int(count) for count in counts)


async def test_an_event_becomes_one_notification_for_the_owner(client: httpx2.AsyncClient) -> None:
    before = datetime.now(UTC)
    event = make_task_event(7, 2, TaskEventType.COMPLETED, actor_id="bob", changes={"completed": (False, True)})
    assert await deliver(client, event) == ["SUCCESS"]
    [notification] = await inbox_of(client)
    assert isinstance(notification.pop("id"), int)
    assert before <= datetime.fromisoformat(str(notification.pop("created_at"))) <= datetime.now(UTC)
    assert notification == {
        "event_id": event.id,
        "task_id": 7,
        "type": "task.completed",
        "title": "Task completed: “Buy milk”",
        "body": None,
        "occurred_at": "2026-03-01T08:32:00.123456Z",
        "read_at": None,
    }
    assert await inbox_of(client, "bob") == []


async def test_what_changed_is_told_in_words(client: httpx2.AsyncClient) -> None:
    await deliver(client, make_task_event(7, 2, changes={"priority": ("low", "high"), "due_at": (None, None)}))
    assert (await inbox_of(client))[0]["body"] == "Priority: low → high\nDue: none → none"


async def test_a_duplicate_delivery_leaves_one_notification(client: httpx2.AsyncClient) -> None:
    event = make_task_event()
    assert await deliver(client, event, event, event) == ["SUCCESS"] * 3
    assert [notification["event_id"] for notification in await inbox_of(client)] == [event.id]


async def test_one_event_delivered_many_times_at_once_leaves_one_notification(
    client: httpx2.AsyncClient,
) -> None:
    event = make_task_event()
    await asyncio.gather(*(deliver_until_taken(client, event) for _ in range(8)))
    assert len(await inbox_of(client)) == 1


async def test_concurrent_deliveries_lose_nothing(client: httpx2.AsyncClient) -> None:
    events = [make_task_event(task) for task in range(1, 51)]
    await asyncio.gather(*(deliver_until_taken(client, event) for event in events))
    assert {item["event_id"] for item in await inbox_of(client)} == {event.id for event in events}


async def test_a_stale_event_is_told_too(client: httpx2.AsyncClient, database: Database) -> None:
    late, early = make_task_event(1, 1), make_task_event(1, 2)
    assert await deliver(client, early, late) == ["SUCCESS"] * 2
    assert [notification["event_id"] for notification in await inbox_of(client)] == [late.id, early.id]
    verdict = await database.fetchval("SELECT verdict FROM inbox_events WHERE event_id = $1", late.id)
    assert verdict == "stale"


async def test_an_event_after_a_missing_version_is_told(client: httpx2.AsyncClient) -> None:
    events = [make_task_event(1, 1), make_task_event(1, 4)]
    await deliver(client, *events)
    assert [item["event_id"] for item in await inbox_of(client)] == [events[1].id, events[0].id]


async def test_missing_versions_are_noted_until_they_arrive(client: httpx2.AsyncClient, database: Database) -> None:
    still_missing = "SELECT from_version, to_version FROM inbox_gaps WHERE closed_at IS NULL"
    await deliver(client, make_task_event(1, 3))
    assert [tuple(row) for row in await database.fetch(still_missing)] == [(1, 2)]
    await deliver(client, make_task_event(1, 2), make_task_event(1, 1))
    assert await database.fetch(still_missing) == []


async def test_a_batch_becomes_a_notification_for_each(client: httpx2.AsyncClient) -> None:
    events = [make_task_event(task) for task in range(1, 6)]
    assert await deliver_bulk(client, *events, b"{") == ["SUCCESS"] * 6
    assert [item["event_id"] for item in await inbox_of(client)] == [event.id for event in reversed(events)]


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
    assert [notification["event_id"] for notification in await inbox_of(client)] == [SAMPLE.id]


async def test_an_event_waits_for_a_database_that_is_down() -> None:
    async with serving(create_app(settings_for(NotifierSettings))) as client:
        assert await deliver(client, make_task_event()) == ["RETRY"]
        response = await client.get("/api/v1/notifications", headers=bearer("alice"))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1


async def test_daprd_is_told_what_to_deliver_where(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/dapr/subscribe")).json() == [
        {
            "pubsubname": "pubsub",
            "topic": "tasks",
            "route": "/events/tasks/bulk",
            "metadata": {"rawPayload": "true"},
            "deadLetterTopic": "notifier.dead-letters",
            "bulkSubscribe": {"enabled": True, "maxMessagesCount": 100, "maxAwaitDurationMs": 10},
        },
        {
            "pubsubname": "pubsub",
            "topic": "notifier.dead-letters",
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


async def test_the_api_document_shows_no_route_of_the_sidecar(
    client: httpx2.AsyncClient,
) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert "/api/v1/notifications" in paths
    assert [path for path in paths if not path.startswith(("/api/v1/", "/health/"))] == []
