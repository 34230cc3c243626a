"""The comments of a task: how many there may be, pages, cursors, and the statements they take."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.comments.models import Comment
from task_api.comments.service import MAX_COMMENTS

TASKS, COMMENTS = "/api/v1/tasks", "/api/v1/comments"
ALICE = bearer("alice")
SentStatements = Callable[[], AbstractContextManager[list[str]]]


@pytest.fixture
async def task(client: httpx2.AsyncClient) -> str:
    """The path of a task of Alice's."""
    return f"{TASKS}/{(await client.post(TASKS, json={'title': 'Pay rent'}, headers=ALICE)).json()['id']}"


async def write(client: httpx2.AsyncClient, task: str, body: str = "Hello") -> dict[str, Any]:
    answer = await client.post(f"{task}/comments", json={"body": body}, headers=ALICE)
    assert answer.status_code == 201, answer.text
    comment: dict[str, Any] = answer.json()
    return comment


async def listed(client: httpx2.AsyncClient, task: str, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"{task}/comments?{query}", headers=ALICE)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def bodies(database: Database) -> list[str]:
    async with database.session() as session:
        return list((await session.exec(select(Comment.body).order_by("id"))).all())


async def fill(database: Database, task: str, count: int) -> None:
    async with database.session() as session:
        statement = """
            INSERT INTO comments (task_id, author_id, body, version, created_at)
            SELECT :task_id, 'alice', 'comment ' || n, 1, now() FROM generate_series(1, :count) AS n
        """
        values = {"task_id": int(task.rpartition("/")[2]), "count": count}
        await (await session.connection()).execute(text(statement), values)
        await session.commit()


async def test_a_task_takes_so_many_comments_and_no_more_whoever_comes_at_once(
    client: httpx2.AsyncClient, database: Database, task: str
) -> None:
    await fill(database, task, MAX_COMMENTS - 2)
    answers = await asyncio.gather(
        *(client.post(f"{task}/comments", json={"body": "one more"}, headers=ALICE) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 201, *[409] * 4]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "too_many_comments"
    assert "1000" in refused.json()["detail"]
    assert len(await bodies(database)) == MAX_COMMENTS
    made = next(answer for answer in answers if answer.status_code == 201)
    await client.delete(made.headers["location"], headers=ALICE)
    await write(client, task)


async def test_pages_are_oldest_first_and_hold_still_while_others_write_and_delete(
    client: httpx2.AsyncClient, database: Database, task: str
) -> None:
    await fill(database, task, 23)
    before = [comment["id"] for comment in await listed(client, task, "limit=200")]
    seen: list[int] = []
    query = "limit=5"
    while True:
        page = (await client.get(f"{task}/comments?{query}", headers=ALICE)).json()
        seen += [comment["id"] for comment in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"limit=5&cursor={page['next_cursor']}"
        await client.delete(f"{COMMENTS}/{seen[-1]}", headers=ALICE)
        await write(client, task, "late")
    assert seen[:23] == before == sorted(before)
    assert len(seen) == len(set(seen))
    page = (await client.get(f"{task}/comments?limit=1&total=true", headers=ALICE)).json()
    assert page["total"] == len(await bodies(database))


async def test_a_cursor_is_good_for_its_own_list_and_user_only(
    client: httpx2.AsyncClient, database: Database, task: str
) -> None:
    await fill(database, task, 3)
    other = f"{TASKS}/{(await client.post(TASKS, json={'title': 'x'}, headers=ALICE)).json()['id']}"
    cursor = (await client.get(f"{task}/comments?limit=1", headers=ALICE)).json()["next_cursor"]
    for path, code in (
        (f"{other}/comments?cursor={cursor}", "cursor_mismatch"),
        (f"{TASKS}?cursor={cursor}", "cursor_mismatch"),
        (f"{task}/comments?cursor={cursor[1:]}", "invalid_cursor"),
    ):
        answer = await client.get(path, headers=ALICE)
        assert (answer.status_code, answer.json()["code"]) == (422, code), path
    for query, named in (("limit=0", "equal to 1"), ("limit=201", "equal to 200"), (f"cursor={'x' * 2001}", "2000")):
        answer = await client.get(f"{task}/comments?{query}", headers=ALICE)
        assert (answer.status_code, named in answer.json()["detail"]) == (422, True)


async def test_a_request_takes_the_same_few_statements_however_many_comments_there_are(
    client: httpx2.AsyncClient, database: Database, task: str, sent_statements: SentStatements
) -> None:
    await fill(database, task, 300)
    with sent_statements() as sent:
        await client.get(f"{task}/comments?limit=200", headers=ALICE)
    assert sent == ["SELECT", "SELECT"], "the task, the page"
    with sent_statements() as sent:
        path = f"{COMMENTS}/{(await write(client, task))['id']}"
    assert sent == ["SELECT", "SELECT", "INSERT"], "hold the task, count, write"
    for method, statements in (("GET", ["SELECT"]), ("PATCH", ["SELECT", "UPDATE"]), ("DELETE", ["SELECT", "DELETE"])):
        with sent_statements() as sent:
            await client.request(method, path, json={"body": "new"} if method == "PATCH" else None, headers=ALICE)
        assert sent == statements
