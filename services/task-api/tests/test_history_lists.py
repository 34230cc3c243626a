"""The lists of completions: periods, pages, cursors, limits, and whose they are."""

from datetime import datetime
from typing import Any

import httpx2
import pytest
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.history.models import Completion

TASKS, COMPLETIONS = "/api/v1/tasks", "/api/v1/completions"
BULK = f"{TASKS}/bulk"
ALICE, BOB = bearer("alice"), bearer("bob")


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


async def test_a_period_is_closed_at_its_beginning_and_open_at_its_end(client: httpx2.AsyncClient) -> None:
    ids = [await create(client, title=f"task {number}") for number in range(3)]
    moments = [(await act(client, task_id, "complete"))["completed_at"] for task_id in ids]
    await act(client, ids[1], "reopen")

    async def found(query: str) -> list[int]:
        return [item["task_id"] for item in await history(client, query=query)]

    assert await found("") == ids[::-1]
    assert await found(f"completed_after={moments[1]}") == [ids[2], ids[1]]
    assert await found(f"completed_before={moments[1]}") == [ids[0]]
    assert await found(f"completed_after={moments[0]}&completed_before={moments[2]}") == [ids[1], ids[0]]
    assert await found("reopened=false") == [ids[2], ids[0]]
    assert await found(f"reopened=true&completed_after={moments[0]}") == [ids[1]]
    answer = await client.get(f"{COMPLETIONS}?limit=1&total=true&reopened=false", headers=ALICE)
    assert (answer.json()["total"], len(answer.json()["items"])) == (2, 1)


async def test_pages_neither_repeat_nor_skip_while_tasks_are_completed_and_reopened(client: httpx2.AsyncClient) -> None:
    results = await bulk(client, *({"op": "create", "task": {"title": "x"}} for _ in range(25)))
    ids = [result["id"] for result in results]
    await bulk(client, *({"op": "complete", "id": task_id} for task_id in ids))  # all at the same moment
    seen: list[dict[str, Any]] = []
    cursor, turn = "", 0
    while True:
        query = f"limit=4&cursor={cursor}" if cursor else "limit=4"
        page = (await client.get(f"{COMPLETIONS}?{query}", headers=ALICE)).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await act(client, await create(client), "complete")
        await act(client, ids[turn], "reopen")
        turn += 1
    assert sorted(item["task_id"] for item in seen) == ids
    assert [item["id"] for item in seen] == sorted((item["id"] for item in seen), reverse=True)


async def test_what_was_completed_stays_in_the_history_of_who_deletes_the_task(client: httpx2.AsyncClient) -> None:
    task_id = await create(client)
    await act(client, task_id, "complete")
    await client.delete(f"{TASKS}/{task_id}", headers=ALICE)
    assert [item["task_id"] for item in await history(client)] == [task_id]
    answer = await client.get(f"{TASKS}/{task_id}/completions", headers=ALICE)
    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")


async def test_nobody_reads_the_history_of_others(client: httpx2.AsyncClient) -> None:
    task_id = await create(client)
    await act(client, task_id, "complete")
    assert (await client.get(COMPLETIONS, headers=BOB)).json() == {"items": [], "next_cursor": None}
    refused = await client.get(f"{TASKS}/{task_id}/completions", headers=BOB)
    assert (refused.status_code, refused.json()["code"]) == (403, "task_forbidden")
    missing = await client.get(f"{TASKS}/987654/completions", headers=ALICE)
    assert (missing.status_code, missing.json()["code"]) == (404, "task_not_found")
    assert (await client.get(COMPLETIONS)).status_code == 401


async def test_a_cursor_is_good_for_its_own_list_and_user_only(client: httpx2.AsyncClient) -> None:
    one, other = await create(client), await create(client)
    for task_id in (one, other):
        for action in ("complete", "reopen", "complete"):
            await act(client, task_id, action)
    cursor = (await client.get(f"{TASKS}/{one}/completions?limit=1", headers=ALICE)).json()["next_cursor"]
    of_tasks = (await client.get(f"{TASKS}?limit=1", headers=ALICE)).json()["next_cursor"]
    for path, headers, code in (
        (f"{TASKS}/{other}/completions?cursor={cursor}", ALICE, "cursor_mismatch"),
        (f"{TASKS}/{one}/completions?reopened=true&cursor={cursor}", ALICE, "cursor_mismatch"),
        (f"{COMPLETIONS}?cursor={cursor}", ALICE, "cursor_mismatch"),
        (f"{COMPLETIONS}?cursor={of_tasks}", ALICE, "cursor_mismatch"),
        (f"{COMPLETIONS}?cursor={cursor}", BOB, "cursor_mismatch"),
        (f"{TASKS}/{one}/completions?cursor={cursor[:-1]}!", ALICE, "invalid_cursor"),
    ):
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, code), path


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "greater than or equal to 1"),
        ("limit=201", "less than or equal to 200"),
        ("completed_after=yesterday", "RFC 3339"),
        ("completed_before=2200-01-01T00:00:00Z", "between 1970 and 2199"),
        ("reopened=perhaps", "boolean"),
        ("cursor=" + "x" * 2001, "2000"),
    ],
)
async def test_what_is_refused_names_the_limit(client: httpx2.AsyncClient, query: str, named: str) -> None:
    answer = await client.get(f"{COMPLETIONS}?{query}", headers=ALICE)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == f"query.{query.partition('=')[0]}"
    assert named in answer.json()["detail"]


async def test_the_order_is_that_of_time_to_the_microsecond(client: httpx2.AsyncClient, database: Database) -> None:
    ids = [await create(client) for _ in range(3)]
    for task_id in ids:
        await act(client, task_id, "complete")
    async with database.session() as session:
        for place, task_id in enumerate(ids):
            row = (await session.exec(select(Completion).where(Completion.task_id == task_id))).one()
            row.completed_at = datetime.fromisoformat(f"2026-03-01T08:00:00.00000{(place + 1) % 3}Z")
        await session.commit()
    first = (await client.get(f"{COMPLETIONS}?limit=2", headers=ALICE)).json()
    rest = (await client.get(f"{COMPLETIONS}?limit=2&cursor={first['next_cursor']}", headers=ALICE)).json()
    assert [item["task_id"] for item in first["items"] + rest["items"]] == [ids[1], ids[0], ids[2]]
