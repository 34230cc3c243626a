"""A change and its event are one transaction; nothing else makes events."""

import asyncio
from uuid import UUID

import httpx2
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent
from task_events import TaskEventData

TASKS = "/api/v1/tasks"
ALICE = bearer("alice")


async def events_in(database: Database) -> list[OutboxEvent]:
    async with database.session() as session:
        return list((await session.exec(select(OutboxEvent).order_by("id"))).all())


async def test_every_kind_of_change_leaves_its_event(client: httpx2.AsyncClient, database: Database) -> None:
    path = f"{TASKS}/{(await client.post(TASKS, json={'title': 'Buy milk'}, headers=ALICE)).json()['id']}"
    await client.patch(path, json={"title": "Buy bread"}, headers=ALICE)
    await client.post(f"{path}/complete", headers=ALICE)
    await client.patch(path, json={"completed": False, "priority": "high"}, headers=ALICE)
    await client.delete(path, headers=ALICE)
    events = await events_in(database)
    assert [(event.type, event.aggregate_version) for event in events] == [
        ("task.created", 1),
        ("task.updated", 2),
        ("task.completed", 3),
        ("task.reopened", 4),
        ("task.deleted", 5),
    ]
    data = [TaskEventData.model_validate(event.payload) for event in events]
    assert [set(item.changes) for item in data] == [
        {"title", "priority", "completed"},
        {"title"},
        {"completed", "completed_at"},
        {"completed", "completed_at", "priority"},
        {"deleted_at"},
    ]
    assert (data[1].changes["title"].old, data[1].changes["title"].new) == ("Buy milk", "Buy bread")
    assert data[4].task.deleted_at is not None
    assert [item.task.version for item in data] == [1, 2, 3, 4, 5]


async def test_an_event_tells_who_when_and_in_which_story(client: httpx2.AsyncClient, database: Database) -> None:
    headers = ALICE | {"X-Correlation-ID": "story-7"}
    task = (await client.post(TASKS, json={"title": "Buy milk"}, headers=headers)).json()
    (event,) = await events_in(database)
    data = TaskEventData.model_validate(event.payload)
    assert (data.actor.id, data.corr_id, data.task.owner_id) == ("alice", "story-7", "alice")
    assert data.occurred_at.isoformat() == task["created_at"].replace("Z", "+00:00")
    assert event.id.version == UUID(str(event.id)).version == 7
    assert event.aggregate_id == task["id"]


async def test_what_is_refused_or_changes_nothing_leaves_no_event(
    client: httpx2.AsyncClient, database: Database
) -> None:
    path = f"{TASKS}/{(await client.post(TASKS, json={'title': 'Buy milk'}, headers=ALICE)).json()['id']}"
    await client.patch(path, json={"title": "Buy milk"}, headers=ALICE)
    await client.post(f"{path}/reopen", headers=ALICE)
    await client.patch(path, json={"title": ""}, headers=ALICE)
    await client.patch(path, json={"title": "mine"}, headers=bearer("bob"))
    await client.delete(path)
    await client.post(TASKS, json={}, headers=ALICE)
    assert [event.type for event in await events_in(database)] == ["task.created"]


async def test_concurrent_changes_leave_contiguous_versions(client: httpx2.AsyncClient, database: Database) -> None:
    path = f"{TASKS}/{(await client.post(TASKS, json={'title': 'Buy milk'}, headers=ALICE)).json()['id']}"
    answers = await asyncio.gather(*(client.post(f"{path}/toggle", headers=ALICE) for _ in range(12)))
    # A slow machine may have some wait too long for the task's lock: 503, and nothing changed.
    assert {answer.status_code for answer in answers} <= {200, 503}
    done = sum(answer.status_code == 200 for answer in answers)
    assert done > 1
    versions = [event.aggregate_version for event in await events_in(database)]
    assert sorted(versions) == list(range(1, done + 2))
