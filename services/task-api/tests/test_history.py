"""The history of completions: each of them once, whatever way a task was completed or reopened."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.history.models import Completion
from task_api.outbox.models import OutboxEvent

TASKS, COMPLETIONS = "/api/v1/tasks", "/api/v1/completions"
BULK = f"{TASKS}/bulk"
ALICE = bearer("alice")
SentStatements = Callable[[], AbstractContextManager[list[str]]]


async def create(client: httpx2.AsyncClient, **fields: object) -> int:
    answer = await client.post(TASKS, json={"title": "Buy milk"} | fields, headers=ALICE)
    assert answer.status_code == 201, answer.text
    task_id: int = answer.json()["id"]
    return task_id


async def act(client: httpx2.AsyncClient, task_id: int, action: str) -> dict[str, Any]:
    answer = await client.post(f"{TASKS}/{task_id}/{action}", headers=ALICE)
    assert answer.status_code == 200, answer.text
    task: dict[str, Any] = answer.json()
    return task


async def history(client: httpx2.AsyncClient, task_id: int | None = None, query: str = "") -> list[dict[str, Any]]:
    path = COMPLETIONS if task_id is None else f"{TASKS}/{task_id}/completions"
    answer = await client.get(f"{path}?{query}", headers=ALICE)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def bulk(client: httpx2.AsyncClient, *operations: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post(BULK, json={"operations": operations}, headers=ALICE)
    assert (answer.status_code, answer.json()["failed"]) == (200, 0), answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def told_by_events(database: Database) -> list[tuple[int, str, bool]]:
    """What the events say of completions: which there were, and which of them stand."""
    async with database.session() as session:
        events = (await session.exec(select(OutboxEvent).order_by("aggregate_id", "aggregate_version"))).all()
    told: list[tuple[int, str, bool]] = []
    for event in events:
        change, task = event.payload["changes"].get("completed"), event.payload["task"]
        if change is not None and change["new"]:
            told.append((task["id"], task["title"], True))
        elif change is not None and change["old"]:
            told[-1] = (*told[-1][:2], False)
    return told


async def kept(database: Database) -> list[tuple[int, str, bool]]:
    async with database.session() as session:
        rows = (await session.exec(select(Completion).order_by("task_id", "id"))).all()
    return [(row.task_id, row.title, row.reopened_at is None) for row in rows]


async def test_a_completion_stands_until_the_task_is_reopened(client: httpx2.AsyncClient) -> None:
    task_id = await create(client)
    assert await history(client, task_id) == []
    done = await act(client, task_id, "complete")
    (first,) = await history(client, task_id)
    assert first == {
        "id": first["id"],
        "task_id": task_id,
        "title": "Buy milk",
        "completed_at": done["completed_at"],
        "reopened_at": None,
    }
    reopened = await act(client, task_id, "reopen")
    assert await history(client, task_id) == [first | {"reopened_at": reopened["updated_at"]}]
    again = await act(client, task_id, "complete")
    second, before = await history(client, task_id)
    assert before == first | {"reopened_at": reopened["updated_at"]}
    assert (second["completed_at"], second["reopened_at"]) == (again["completed_at"], None)


@pytest.mark.parametrize("way", ["complete", "toggle", "patch", "put", "bulk complete", "bulk update"])
async def test_every_way_to_complete_and_reopen_is_in_the_history(client: httpx2.AsyncClient, way: str) -> None:
    task_id = await create(client)

    async def set_completed(completed: bool) -> None:
        empty: dict[str, object] = dict.fromkeys(["description", "due_at", "parent_id", "recurrence"])
        whole = empty | {"title": "Buy milk", "priority": "low", "tags": [], "completed": completed}
        match way:
            case "complete":
                await act(client, task_id, "complete" if completed else "reopen")
            case "toggle":
                await act(client, task_id, "toggle")
            case "patch":
                await client.patch(f"{TASKS}/{task_id}", json={"completed": completed}, headers=ALICE)
            case "put":
                await client.put(f"{TASKS}/{task_id}", json=whole, headers=ALICE)
            case "bulk complete":
                await bulk(client, {"op": "complete" if completed else "reopen", "id": task_id})
            case _:
                await bulk(client, {"op": "update", "id": task_id, "changes": {"completed": completed}})

    await set_completed(True)
    ((standing, at),) = [(item["reopened_at"] is None, item["completed_at"]) for item in await history(client)]
    assert standing
    await set_completed(False)
    (item,) = await history(client)
    assert item["completed_at"] == at < item["reopened_at"]


async def test_other_changes_leave_no_trace_and_a_title_is_kept_as_it_was(client: httpx2.AsyncClient) -> None:
    task_id = await create(client)
    await act(client, task_id, "complete")
    await act(client, task_id, "complete")
    await client.patch(f"{TASKS}/{task_id}", json={"title": "Buy bread"}, headers=ALICE)
    await client.delete(f"{TASKS}/{task_id}", headers=ALICE)
    await act(client, task_id, "restore")
    assert [item["title"] for item in await history(client, task_id)] == ["Buy milk"]


async def test_subtasks_that_are_completed_along_are_in_the_history(
    client: httpx2.AsyncClient, database: Database
) -> None:
    above = await create(client)
    below = [await create(client, title=f"part {number}", parent_id=above) for number in range(3)]
    await act(client, below[1], "complete")
    await act(client, above, "complete")
    assert await kept(database) == [
        (above, "Buy milk", True), (below[0], "part 0", True), (below[1], "part 1", True), (below[2], "part 2", True),
    ]  # fmt: skip
    assert sorted(await kept(database)) == sorted(await told_by_events(database))


async def test_the_history_of_a_recurring_task_is_that_of_all_it_came_from(client: httpx2.AsyncClient) -> None:
    recurrence = {"rule": "FREQ=DAILY", "anchor": "completion"}
    first = await create(client, title="Water the plants", recurrence=recurrence)
    await create(client)
    line = [first]
    for _ in range(3):
        await act(client, line[-1], "complete")
        line.append(max(task["id"] for task in (await client.get(TASKS, headers=ALICE)).json()["items"]))
    await act(client, line[1], "reopen")
    for task_id in line:
        told = [(item["task_id"], item["reopened_at"] is None) for item in await history(client, task_id)]
        assert told == [(line[2], True), (line[1], False), (line[0], True)], "whichever of them is asked"


async def test_a_recurring_task_in_a_bulk_goes_on_with_its_history(client: httpx2.AsyncClient) -> None:
    first = await create(client, recurrence={"rule": "FREQ=DAILY", "anchor": "completion"})
    await bulk(client, {"op": "complete", "id": first})
    (upcoming,) = (await client.get(f"{TASKS}?completed=false", headers=ALICE)).json()["items"]
    await bulk(client, {"op": "complete", "id": upcoming["id"]})
    assert [item["task_id"] for item in await history(client, first)] == [upcoming["id"], first]


async def test_what_is_flipped_over_and_over_in_one_bulk_is_kept_each_time(
    client: httpx2.AsyncClient, database: Database
) -> None:
    one, other = await create(client), await create(client, title="other")
    await act(client, other, "complete")
    flips = ["complete", "reopen"] * 3
    operations: list[dict[str, Any]] = []
    for number, op in enumerate([*flips, "complete"]):
        operations += [{"op": op, "id": one}, {"op": "update", "id": one, "changes": {"title": f"title {number}"}}]
    operations += [{"op": op, "id": other} for op in ["reopen", *flips]]
    await bulk(client, *operations)
    assert await kept(database) == await told_by_events(database)
    assert len([item for item in await kept(database) if item[0] == one]) == 4
    assert [item[2] for item in await kept(database) if item[0] == other] == [False] * 4


async def test_a_bulk_writes_history_in_one_round_trip_of_each_kind(
    client: httpx2.AsyncClient, sent_statements: SentStatements, database: Database
) -> None:
    with sent_statements() as sent:
        made = await bulk(client, *({"op": "create", "task": {"title": f"task {number}"}} for number in range(300)))
    assert sent == ["SELECT", "SELECT", "INSERT", "INSERT"], "new tasks have none"
    ids = [result["id"] for result in made]
    with sent_statements() as sent:
        await bulk(client, *({"op": "complete", "id": task_id} for task_id in ids))
    assert sent == ["SELECT", "SELECT", "SELECT", "UPDATE", "INSERT", "INSERT"]
    with sent_statements() as sent:
        await bulk(client, *({"op": "reopen", "id": task_id} for task_id in ids))
    assert sent == ["SELECT", "SELECT", "UPDATE", "INSERT", "UPDATE"]
    assert await kept(database) == [(task_id, f"task {number}", False) for number, task_id in enumerate(ids)]


async def test_two_completions_at_once_are_one(client: httpx2.AsyncClient, database: Database) -> None:
    task_id = await create(client)
    for rounds in range(1, 4):
        answers = await asyncio.gather(
            *(client.post(f"{TASKS}/{task_id}/complete", headers=ALICE) for _ in range(4)),
            client.post(BULK, json={"operations": [{"op": "complete", "id": task_id}] * 2}, headers=ALICE),
        )
        assert {answer.status_code for answer in answers} == {200}
        assert await kept(database) == [(task_id, "Buy milk", False)] * (rounds - 1) + [(task_id, "Buy milk", True)]
        await asyncio.gather(*(client.post(f"{TASKS}/{task_id}/reopen", headers=ALICE) for _ in range(4)))
        assert await kept(database) == [(task_id, "Buy milk", False)] * rounds


async def test_toggles_at_once_are_all_in_the_history(client: httpx2.AsyncClient, database: Database) -> None:
    task_id = await create(client)
    await asyncio.gather(*(client.post(f"{TASKS}/{task_id}/toggle", headers=ALICE) for _ in range(9)))
    assert await kept(database) == await told_by_events(database)
    assert [stands for _, _, stands in await kept(database)] == [False] * 4 + [True]


async def test_a_change_that_is_not_committed_is_not_history(client: httpx2.AsyncClient, database: Database) -> None:
    task_id = await create(client)
    key = ALICE | {"Idempotency-Key": "k-1"}
    first, again = [await client.post(f"{TASKS}/{task_id}/toggle", headers=key) for _ in range(2)]
    assert first.content == again.content
    await client.post(f"{TASKS}/{task_id}/toggle", headers=ALICE | {"If-Match": '"1-1"'})
    assert await kept(database) == [(task_id, "Buy milk", True)]


async def test_what_a_replica_of_the_release_before_reopened_can_be_completed_again(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await create(client)
    await act(client, task_id, "complete")
    async with database.session() as session:
        connection = await session.connection()  # as it did: the task, and no history
        await connection.exec_driver_sql("UPDATE tasks SET completed = false, completed_at = NULL, version = 5")
        await session.commit()
    again = await act(client, task_id, "complete")
    (item,) = await history(client, task_id)
    assert (item["completed_at"], item["reopened_at"]) == (again["completed_at"], None)
