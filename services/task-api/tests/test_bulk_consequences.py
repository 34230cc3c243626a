"""What follows from a change follows in a bulk too: subtasks, recurrence, positions; and a refusal leaves no trace."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
from sqlmodel import col, select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
Item = dict[str, Any]
DAILY = {"rule": "FREQ=DAILY", "anchor": "due", "time_zone": "UTC"}
FAR_DUE = "2100-03-27T08:00:00Z"


async def create(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, **fields: object) -> Item:
    response = await client.post(TASKS, json={"title": "x"} | fields, headers=headers)
    assert response.status_code == 201, response.text
    task: Item = response.json()
    return task


async def bulk(client: httpx2.AsyncClient, *operations: object) -> list[Item]:
    response = await client.post(f"{TASKS}/bulk", json={"operations": operations}, headers=ALICE)
    assert response.status_code == 200, response.text
    results: list[Item] = response.json()["results"]
    return results


async def all_of(client: httpx2.AsyncClient, **query: str) -> list[Item]:
    response = await client.get(TASKS, params=query | {"limit": "200", "sort": "position"}, headers=ALICE)
    items: list[Item] = response.json()["items"]
    return items


def new(**fields: object) -> Item:
    return {"op": "create", "task": {"title": "x"} | fields}


def op(name: str, task: Item, **more: object) -> Item:
    return {"op": name, "id": task["id"]} | more


async def events_of(database: Database, *tasks: Item) -> list[tuple[int, int, str]]:
    """Tell id, version and kind of the events, and make sure that each is of the next version."""
    async with database.session() as session:
        order = (col(OutboxEvent.aggregate_id), col(OutboxEvent.aggregate_version))
        rows = (await session.exec(select(OutboxEvent).order_by(*order))).all()
    versions: dict[int, int] = {}
    for row in rows:
        assert row.aggregate_version == versions.get(row.aggregate_id, 0) + 1
        assert row.payload["task"]["version"] == row.aggregate_version
        versions[row.aggregate_id] = row.aggregate_version
    ids = {task["id"] for task in tasks}
    return [(row.aggregate_id, row.aggregate_version, row.type) for row in rows if row.aggregate_id in ids]


async def test_completing_in_a_bulk_takes_subtasks_along_those_of_the_same_bulk_too(
    client: httpx2.AsyncClient, database: Database
) -> None:
    top = await create(client)
    low = await create(client, parent_id=top["id"])
    results = await bulk(
        client,
        op("update", low, changes={"title": "first"}),
        new(parent_id=top["id"]),
        op("complete", top),
        op("reopen", low, version=3),
    )
    assert [result["status"] for result in results] == [200, 201, 200, 200]
    made = results[1]["task"]
    assert (made["version"], made["completed"]) == (1, False), "as it was right after its operation"
    shown = {task["id"]: task for task in await all_of(client)}
    assert {shown[task["id"]]["completed"] for task in (top, made)} == {True}
    assert (shown[low["id"]]["version"], shown[low["id"]]["title"]) == (4, "first")
    assert await events_of(database, low) == [
        (low["id"], version, f"task.{kind}")
        for version, kind in enumerate(("created", "updated", "completed", "reopened"), 1)
    ]
    assert (await events_of(database, made))[1:] == [(made["id"], 2, "task.completed")]


async def test_deleting_and_restoring_in_a_bulk_is_about_what_is_below_too(
    client: httpx2.AsyncClient, database: Database
) -> None:
    top = await create(client)
    low = await create(client, parent_id=top["id"])
    early = await create(client, parent_id=top["id"])
    await client.delete(f"{TASKS}/{early['id']}", headers=ALICE)
    results = await bulk(client, op("delete", top), op("update", low, changes={"title": "late"}))
    assert [result["status"] for result in results] == [204, 404]
    assert await all_of(client) == []
    (restored,) = await bulk(client, op("restore", top))
    assert restored["status"] == 200
    assert {task["id"] for task in await all_of(client)} == {top["id"], low["id"]}
    expected = [(low["id"], 1, "task.created"), (low["id"], 2, "task.deleted"), (low["id"], 3, "task.restored")]
    assert await events_of(database, low) == expected


async def test_restoring_alone_brings_back_what_was_deleted_together(client: httpx2.AsyncClient) -> None:
    top = await create(client)
    middle = await create(client, parent_id=top["id"])
    low = await create(client, parent_id=middle["id"])
    await client.delete(f"{TASKS}/{top['id']}", headers=ALICE)
    answer = await client.post(f"{TASKS}/{middle['id']}/restore", headers=ALICE)
    assert (answer.status_code, answer.json()["parent_id"]) == (200, None), "what it was below is gone"
    assert {task["id"] for task in await all_of(client)} == {middle["id"], low["id"]}
    await client.post(f"{TASKS}/{top['id']}/restore", headers=ALICE)
    shown = {task["id"]: task["parent_id"] for task in await all_of(client)}
    assert shown == {top["id"]: None, middle["id"]: None, low["id"]: middle["id"]}


async def test_what_two_operations_of_a_bulk_deleted_does_not_come_back_together(client: httpx2.AsyncClient) -> None:
    top = await create(client)
    low = await create(client, parent_id=top["id"])
    results = await bulk(client, op("delete", low), op("delete", top), op("restore", top))
    assert [result["status"] for result in results] == [204, 204, 200]
    assert {task["id"] for task in await all_of(client)} == {top["id"]}, "as if they had been asked for one by one"


async def test_a_recurring_task_comes_again_from_a_bulk_and_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task = await create(client, due_at=FAR_DUE, recurrence=DAILY, tags=["home"])
    results = await bulk(client, op("complete", task), op("reopen", task), op("complete", task))
    assert [result["task"]["recurrence"] for result in results] == [None] * 3
    (following,) = await all_of(client, completed="false")
    assert (following["due_at"], following["recurrence"]) == ("2100-03-28T08:00:00Z", DAILY)
    assert (following["tags"], following["position"]) == (task["tags"], task["position"])
    assert await events_of(database, following) == [(following["id"], 1, "task.created")]


async def test_new_tasks_of_a_bulk_come_last_each_at_a_place_of_its_own(client: httpx2.AsyncClient) -> None:
    first = await create(client)
    made = [result["task"] for result in await bulk(client, *(new(title=str(number)) for number in range(20)))]
    assert [task["id"] for task in await all_of(client)] == [first["id"], *(task["id"] for task in made)]
    assert len({task["position"] for task in made}) == 20
    moved = await client.post(f"{TASKS}/{first['id']}/move", json={"after": made[4]["id"]}, headers=ALICE)
    assert moved.status_code == 200
    assert [task["id"] for task in await all_of(client)][4:6] == [made[4]["id"], first["id"]]


async def test_what_is_refused_for_its_parent_or_its_rule_fails_alone_and_changes_nothing(
    client: httpx2.AsyncClient, database: Database
) -> None:
    a, bobs = await create(client), await create(client, BOB)
    b = await create(client, parent_id=a["id"])
    results = await bulk(
        client,
        op("update", b, changes={"title": "kept"}),
        op("update", a, changes={"title": "lost", "parent_id": b["id"]}),
        op("update", b, changes={"title": "lost", "parent_id": bobs["id"]}),
        new(parent_id=bobs["id"]),
        op("update", b, changes={"title": "lost", "recurrence": {"rule": "FREQ=DAILY"}}),
        new(recurrence=DAILY),
        op("update", b, changes={"tags": ["Kept"]}),
    )
    codes = [(result["error"] or {}).get("code") for result in results]
    assert codes == [None, *["invalid_parent"] * 3, *["invalid_recurrence"] * 2, None]
    shown = {task["id"]: task for task in await all_of(client)}
    assert shown[a["id"]] == a
    after = shown[b["id"]]
    assert (after["title"], after["tags"], after["parent_id"], after["version"]) == ("kept", ["kept"], a["id"], 3)
    assert len(await events_of(database, b)) == 3


async def test_two_tasks_put_below_each_other_in_one_bulk_make_no_circle(client: httpx2.AsyncClient) -> None:
    a, b = await create(client), await create(client)
    results = await bulk(
        client, op("update", a, changes={"parent_id": b["id"]}), op("update", b, changes={"parent_id": a["id"]})
    )
    assert [result["status"] for result in results] == [200, 422]


async def test_recurring_tasks_take_no_statement_each(
    client: httpx2.AsyncClient, sent_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    counts = []
    for size in (2, 60):
        made = await bulk(client, *(new(due_at=FAR_DUE, recurrence=DAILY, tags=["a"]) for _ in range(size)))
        with sent_statements() as sent:
            results = await bulk(client, *(op("complete", result["task"]) for result in made))
        assert {result["status"] for result in results} == {200}
        counts.append(sent)
    assert counts[0] == counts[1]


async def test_a_task_that_changed_with_another_has_a_new_tag(client: httpx2.AsyncClient) -> None:
    top = await create(client)
    low = await create(client, parent_id=top["id"])
    await client.post(f"{TASKS}/{top['id']}/complete", headers=ALICE)
    path, stale = f"{TASKS}/{low['id']}", {"If-Match": f'"{low["id"]}-1"'}
    answer = await client.patch(path, json={"title": "y"}, headers=ALICE | stale)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert (await client.get(path, headers=ALICE)).headers["etag"] == f'"{low["id"]}-2"'


async def test_a_completion_sent_again_under_its_key_makes_one_next_task(client: httpx2.AsyncClient) -> None:
    task = await create(client, due_at=FAR_DUE, recurrence=DAILY)
    headers = ALICE | {"Idempotency-Key": "k-1"}
    first, again = [await client.post(f"{TASKS}/{task['id']}/toggle", headers=headers) for _ in range(2)]
    assert (first.content, again.headers["idempotent-replayed"]) == (again.content, "true")
    assert len(await all_of(client)) == 2


async def test_the_feed_tells_what_changed_along_with_every_field(client: httpx2.AsyncClient) -> None:
    top = await create(client, tags=["home"])
    low = await create(client, parent_id=top["id"], due_at=FAR_DUE, recurrence=DAILY)
    begun = (await client.get(f"{TASKS}/changes", headers=ALICE)).json()
    await bulk(client, op("complete", top))
    told = (await client.get(f"{TASKS}/changes", params={"cursor": begun["next_cursor"]}, headers=ALICE)).json()
    shown = {item["id"]: item["task"] for item in told["items"]}
    assert shown.keys() == {top["id"], low["id"]}
    for task in (top, low):
        assert shown[task["id"]] == (await client.get(f"{TASKS}/{task['id']}", headers=ALICE)).json()
    assert shown[low["id"]]["recurrence"] == DAILY
