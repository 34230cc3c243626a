"""The own order of tasks as a frontend sees it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2

from chassis.testing import bearer

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
Item = dict[str, Any]


async def create(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE) -> Item:
    response = await client.post(TASKS, json={"title": "Buy milk"}, headers=headers)
    assert response.status_code == 201, response.text
    task: Item = response.json()
    return task


async def move(client: httpx2.AsyncClient, task: Item, **place: int) -> Item:
    response = await client.post(f"{TASKS}/{task['id']}/move", json=place, headers=ALICE)
    assert response.status_code == 200, response.text
    moved: Item = response.json()
    return moved


async def in_order(client: httpx2.AsyncClient) -> list[Item]:
    response = await client.get(TASKS, params={"sort": "position"}, headers=ALICE)
    assert response.status_code == 200, response.text
    items: list[Item] = response.json()["items"]
    return items


async def order(client: httpx2.AsyncClient) -> list[int]:
    return [task["id"] for task in await in_order(client)]


async def test_new_tasks_come_last_and_moves_put_them_anywhere(client: httpx2.AsyncClient) -> None:
    a, b, c, d = [await create(client) for _ in range(4)]
    ids = {name: task["id"] for name, task in zip("abcd", (a, b, c, d), strict=True)}

    async def shown() -> str:
        return "".join(name for one in await order(client) for name in ids if ids[name] == one)

    assert await shown() == "abcd"
    await move(client, d, before=a["id"])
    assert await shown() == "dabc"
    await move(client, d, after=b["id"])
    assert await shown() == "abdc"
    await move(client, a, after=c["id"])
    assert await shown() == "bdca"
    moved = await move(client, c, after=b["id"])
    assert await shown() == "bcda"
    assert moved["version"] == 2
    ids["e"] = (await create(client))["id"]
    assert await shown() == "bcdae"


async def test_moves_to_one_place_at_once_all_get_places_of_their_own(client: httpx2.AsyncClient) -> None:
    tasks = [await create(client) for _ in range(10)]
    await asyncio.gather(*(move(client, task, after=tasks[0]["id"]) for task in tasks[2:]))
    shown = await in_order(client)
    assert (shown[0]["id"], shown[-1]["id"]) == (tasks[0]["id"], tasks[1]["id"])
    assert len({task["position"] for task in shown}) == len(tasks)


async def test_a_move_names_one_other_own_task(client: httpx2.AsyncClient) -> None:
    task, other, gone = [await create(client) for _ in range(3)]
    bobs = await create(client, BOB)
    await client.delete(f"{TASKS}/{gone['id']}", headers=ALICE)
    path = f"{TASKS}/{task['id']}/move"
    for anchor in (bobs["id"], gone["id"], task["id"], 987654):
        answer = await client.post(path, json={"after": anchor}, headers=ALICE)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_move")
        assert answer.json()["errors"][0]["field"] == "after"
    for body in ({}, {"after": other["id"], "before": other["id"]}, {"after": 0}, {"after": "x"}, {"to": 1}):
        assert (await client.post(path, json=body, headers=ALICE)).status_code == 422
    assert (await client.post(path, json={"after": task["id"]}, headers=BOB)).status_code == 403
    assert await order(client) == [task["id"], other["id"]]


async def test_a_move_locks_each_task_once(
    client: httpx2.AsyncClient, sent_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    tasks = [await create(client) for _ in range(3)]
    with sent_statements() as sent:
        await move(client, tasks[2], after=tasks[0]["id"])
    assert sent == [
        "SELECT",  # wait for who changes trees
        "SELECT",  # lock the one of the smaller id
        "SELECT",  # and the other
        "SELECT",  # the neighbour
        "UPDATE",  # the task
        "INSERT",  # its event
    ]


async def test_a_move_is_made_on_terms(client: httpx2.AsyncClient) -> None:
    first, second = [await create(client) for _ in range(2)]
    path, place = f"{TASKS}/{second['id']}/move", {"before": first["id"]}
    etag = (await client.get(f"{TASKS}/{second['id']}", headers=ALICE)).headers["etag"]
    await client.patch(f"{TASKS}/{second['id']}", json={"title": "meanwhile"}, headers=ALICE)
    stale = await client.post(path, json=place, headers=ALICE | {"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert await order(client) == [first["id"], second["id"]]
    etag = (await client.get(f"{TASKS}/{second['id']}", headers=ALICE)).headers["etag"]
    assert (await client.post(path, json=place, headers=ALICE | {"If-Match": etag})).status_code == 200
    assert await order(client) == [second["id"], first["id"]]
