"""Who changes several tasks, and the trees they are in, at once with others: all wait, in a line and not in a circle.

Each test holds one row itself, so that the requests meet in the order in which they would deadlock; PostgreSQL would
end one of them after a second, and its caller would get a 503.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlmodel import col, select

from chassis.database import Database
from chassis.testing import PATIENCE, bearer
from devstack.polling import within
from task_api.outbox.models import OutboxEvent

TASKS = "/api/v1/tasks"
ALICE = bearer("alice")
DAILY = {"rule": "FREQ=DAILY", "anchor": "due", "time_zone": "UTC"}
Answer = httpx2.Response


@pytest.fixture
async def beside(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(database_url, ssl=False)
    yield connection
    await connection.close()


async def create(client: httpx2.AsyncClient, **fields: object) -> int:
    response = await client.post(TASKS, json={"title": "x"} | fields, headers=ALICE)
    assert response.status_code == 201, response.text
    task_id: int = response.json()["id"]
    return task_id


async def family(client: httpx2.AsyncClient, **fields: object) -> tuple[int, int, int]:
    """Make a task that is younger than the two below it: no order of ids is an order of the tree."""
    children = [await create(client, **fields) for _ in range(2)]
    top = await create(client)
    for child in children:
        answer = await client.patch(f"{TASKS}/{child}", json={"parent_id": top}, headers=ALICE)
        assert answer.status_code == 200
    return children[0], children[1], top


def post(client: httpx2.AsyncClient, path: str, body: object = None) -> Coroutine[Any, Any, Answer]:
    return client.post(TASKS + path, json=body, headers=ALICE)


def updates(*task_ids: int) -> dict[str, Any]:
    return {"operations": [{"op": "update", "id": task_id, "changes": {"title": "y"}} for task_id in task_ids]}


class Line:
    """Requests that wait, one after the other, as long as a row is held."""

    def __init__(self, beside: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._beside = beside
        self._waiting: list[asyncio.Task[Answer]] = []

    async def enters(self, request: Coroutine[Any, Any, Answer]) -> None:
        """Send a request and see it wait."""
        self._waiting.append(asyncio.create_task(request))

        async def waits() -> bool:
            sql = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            waiting: int = await self._beside.fetchval(sql)
            return waiting >= len(self._waiting)

        assert await within(PATIENCE, waits, 0.02)

    async def answers(self) -> list[int]:
        """Give what they were answered."""
        return [(await answer).status_code for answer in self._waiting]


@asynccontextmanager
async def held(beside: "asyncpg.Connection[asyncpg.Record]", task_id: int) -> AsyncIterator[Line]:
    async with beside.transaction():
        await beside.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task_id)
        yield Line(beside)


async def versions_are_contiguous(database: Database) -> None:
    async with database.session() as session:
        order = (col(OutboxEvent.aggregate_id), col(OutboxEvent.aggregate_version))
        rows = (await session.exec(select(OutboxEvent).order_by(*order))).all()
    last: dict[int, int] = {}
    for row in rows:
        assert row.aggregate_version == last.get(row.aggregate_id, 0) + 1
        last[row.aggregate_id] = row.aggregate_version


async def test_a_bulk_and_the_deletion_of_a_task_with_subtasks_wait_for_each_other_in_one_order(
    client: httpx2.AsyncClient, beside: "asyncpg.Connection[asyncpg.Record]", database: Database
) -> None:
    low, middle, top = await family(client)
    async with held(beside, middle) as line:
        await line.enters(post(client, "/bulk", updates(low, middle, top)))
        await line.enters(client.delete(f"{TASKS}/{top}", headers=ALICE))
    assert await line.answers() == [200, 204]
    assert (await client.get(f"{TASKS}/{low}", headers=ALICE)).status_code == 404
    await versions_are_contiguous(database)


async def test_two_bulks_of_which_one_takes_subtasks_along_wait_for_each_other_in_one_order(
    client: httpx2.AsyncClient, beside: "asyncpg.Connection[asyncpg.Record]", database: Database
) -> None:
    low, middle, top = await family(client)
    async with held(beside, middle) as line:
        await line.enters(post(client, "/bulk", updates(low, middle, top)))
        await line.enters(post(client, "/bulk", {"operations": [{"op": "complete", "id": top}]}))
    assert await line.answers() == [200, 200]
    assert (await client.get(f"{TASKS}/{low}", headers=ALICE)).json()["completed"] is True
    await versions_are_contiguous(database)


async def test_a_recurring_subtask_is_completed_while_the_task_above_it_is_deleted(
    client: httpx2.AsyncClient, beside: "asyncpg.Connection[asyncpg.Record]", database: Database
) -> None:
    low, recurring, top = await family(client, due_at="2100-01-01T08:00:00Z", recurrence=DAILY)
    async with held(beside, low) as line:
        await line.enters(client.delete(f"{TASKS}/{top}", headers=ALICE))
        completing = asyncio.create_task(post(client, f"/{recurring}/complete"))
        await asyncio.wait({completing}, timeout=1)  # it may wait for the deletion, and need not
    assert await line.answers() == [204]
    assert (await completing).status_code in {200, 404}
    listed = await client.get(TASKS, headers=ALICE)
    assert listed.json()["items"] == [], "nothing is left below what is deleted, the next one of the subtask neither"
    await versions_are_contiguous(database)


async def test_a_move_and_the_completion_of_a_task_with_subtasks_wait_for_each_other_in_one_order(
    client: httpx2.AsyncClient, beside: "asyncpg.Connection[asyncpg.Record]", database: Database
) -> None:
    low, _, top = await family(client)
    async with held(beside, low) as line:
        await line.enters(post(client, f"/{low}/move", {"after": top}))
        await line.enters(post(client, f"/{top}/complete"))
    assert await line.answers() == [200, 200]
    await versions_are_contiguous(database)


async def test_a_task_is_put_below_an_older_one_while_a_bulk_changes_both(
    client: httpx2.AsyncClient, beside: "asyncpg.Connection[asyncpg.Record]", database: Database
) -> None:
    older, task = await create(client), await create(client)
    async with held(beside, task) as line:
        await line.enters(client.patch(f"{TASKS}/{task}", json={"parent_id": older}, headers=ALICE))
        await line.enters(post(client, "/bulk", updates(older, task)))
    assert await line.answers() == [200, 200]
    await versions_are_contiguous(database)


async def test_patches_of_different_fields_at_once_all_apply(client: httpx2.AsyncClient, database: Database) -> None:
    task_id = await create(client)
    fields = {"title": "t", "description": "d", "priority": "low", "tags": ["home"], "due_at": "2100-01-01T08:00:00Z"}
    answers = await asyncio.gather(
        *(client.patch(f"{TASKS}/{task_id}", json={name: fields[name]}, headers=ALICE) for name in fields)
    )
    assert {answer.status_code for answer in answers} == {200}
    task = (await client.get(f"{TASKS}/{task_id}", headers=ALICE)).json()
    assert ({name: task[name] for name in fields}, task["version"]) == (fields, 1 + len(fields))
    await versions_are_contiguous(database)
