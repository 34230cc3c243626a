"""Comments: written, listed, edited and deleted by the owner of their task, each as often as it was asked for."""

import asyncio
from typing import Any

import httpx2
import pytest
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.comments.models import Comment
from task_api.outbox.models import OutboxEvent

TASKS, COMMENTS = "/api/v1/tasks", "/api/v1/comments"
ALICE, BOB = bearer("alice"), bearer("bob")
JSON = {"Content-Type": "application/json"}


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


async def test_a_comment_is_written_read_edited_and_deleted(client: httpx2.AsyncClient, task: str) -> None:
    written = await client.post(f"{task}/comments", json={"body": "Hello"}, headers=ALICE)
    comment = written.json()
    path = f"{COMMENTS}/{comment['id']}"
    assert (written.status_code, written.headers["location"]) == (201, path)
    assert comment == {
        "id": comment["id"],
        "task_id": int(task.rpartition("/")[2]),
        "author_id": "alice",
        "body": "Hello",
        "version": 1,
        "created_at": comment["created_at"],
        "edited_at": None,
    }
    read = await client.get(path, headers=ALICE)
    assert (read.status_code, read.content, read.headers["etag"]) == (200, written.content, written.headers["etag"])
    edited = (await client.patch(path, json={"body": "Hello again"}, headers=ALICE)).json()
    assert edited == comment | {"body": "Hello again", "version": 2, "edited_at": edited["edited_at"]}
    assert edited["edited_at"] > comment["created_at"]
    assert await listed(client, task) == [edited]
    deleted = await client.delete(path, headers=ALICE)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert await listed(client, task) == []
    for gone in (await client.get(path, headers=ALICE), await client.delete(path, headers=ALICE)):
        assert (gone.status_code, gone.json()["code"]) == (404, "comment_not_found")


async def test_the_text_of_a_deleted_comment_is_gone_from_the_database(
    client: httpx2.AsyncClient, database: Database, task: str
) -> None:
    comment = await write(client, task, "a secret")
    await client.delete(f"{COMMENTS}/{comment['id']}", headers=ALICE)
    assert await bodies(database) == []


async def test_comments_are_no_change_of_their_task_and_no_event(
    client: httpx2.AsyncClient, database: Database, task: str
) -> None:
    before = (await client.get(task, headers=ALICE)).content
    comment = await write(client, task)
    await client.patch(f"{COMMENTS}/{comment['id']}", json={"body": "else"}, headers=ALICE)
    await client.delete(f"{COMMENTS}/{comment['id']}", headers=ALICE)
    assert (await client.get(task, headers=ALICE)).content == before
    async with database.session() as session:
        assert [event.type for event in (await session.exec(select(OutboxEvent))).all()] == ["task.created"]


@pytest.mark.parametrize(
    "body",
    [
        "x" * 10_000,
        "🎉" * 10_000,
        "    code\n\n* list\n<script>alert(1)</script>\t",
        "\u05e9\u05dc\u05d5\u05dd \u202e\u0639\u0627\u0644\u0645\u202c",
        " leading and trailing \n",
        "e\u0301 \u0001 \ufeff",
    ],
    ids=["longest", "longest in bytes", "markdown and html", "right to left", "spaces", "odd characters"],
)
async def test_a_body_comes_back_as_it_was_given(client: httpx2.AsyncClient, task: str, body: str) -> None:
    assert (await write(client, task, body))["body"] == body
    assert [comment["body"] for comment in await listed(client, task)] == [body]


@pytest.mark.parametrize(
    ("body", "field", "named"),
    [
        ('{"body": ""}', "body", "at least 1 character"),
        ('{"body": " \\n\\t"}', "body", "must not be blank"),
        ('{"body": "a\\u0000b"}', "body", "must not contain NUL"),
        (f'{{"body": "{"x" * 10_001}"}}', "body", "at most 10000 characters"),
        ('{"body": "\\ud800"}', "body", "unicode"),
        ('{"body": null}', "body", "valid string"),
        ('{"body": 7}', "body", "valid string"),
        ('{"body": "x", "author_id": "bob"}', "author_id", "not permitted"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_is_no_comment_is_refused_by_name_and_changes_nothing(
    client: httpx2.AsyncClient, database: Database, task: str, method: str, body: str, field: str, named: str
) -> None:
    comment = await write(client, task)
    path = f"{task}/comments" if method == "POST" else f"{COMMENTS}/{comment['id']}"
    answer = await client.request(method, path, content=body, headers=ALICE | JSON)
    assert answer.status_code == 422, answer.text
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]
    assert named in answer.json()["detail"]
    assert await bodies(database) == ["Hello"]


async def test_a_new_comment_needs_a_body_and_a_patch_may_name_none(client: httpx2.AsyncClient, task: str) -> None:
    refused = await client.post(f"{task}/comments", json={}, headers=ALICE)
    assert (refused.status_code, refused.json()["errors"]) == (422, [{"field": "body", "message": "Field required"}])
    comment = await write(client, task)
    path = f"{COMMENTS}/{comment['id']}"
    for same in ({}, {"body": "Hello"}):
        assert (await client.patch(path, json=same, headers=ALICE)).json() == comment, "no edit"


async def test_a_body_of_ten_megabytes_is_refused(client: httpx2.AsyncClient, task: str) -> None:
    answer = await client.post(f"{task}/comments", json={"body": "x" * 10_000_000}, headers=ALICE)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_only_the_owner_of_the_task_has_its_comments(
    client: httpx2.AsyncClient, database: Database, task: str
) -> None:
    path = f"{COMMENTS}/{(await write(client, task))['id']}"
    for answer in (
        await client.get(f"{task}/comments", headers=BOB),
        await client.post(f"{task}/comments", json={"body": "x"}, headers=BOB),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "task_forbidden")
    for answer in (
        await client.get(path, headers=BOB),
        await client.patch(path, json={"body": "x"}, headers=BOB),
        await client.delete(path, headers=BOB),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "comment_forbidden")
    for method in ("GET", "PATCH", "DELETE"):
        answer = await client.request(method, path, json={"body": "x"} if method == "PATCH" else None)
        assert answer.status_code == 401
    assert await bodies(database) == ["Hello"]


async def test_what_is_not_there_is_not_found(client: httpx2.AsyncClient) -> None:
    for method, path, code in (
        ("GET", f"{TASKS}/987654/comments", "task_not_found"),
        ("POST", f"{TASKS}/987654/comments", "task_not_found"),
        ("GET", f"{COMMENTS}/987654", "comment_not_found"),
        ("PATCH", f"{COMMENTS}/987654", "comment_not_found"),
        ("DELETE", f"{COMMENTS}/987654", "comment_not_found"),
    ):
        body = {"body": "x"} if method in {"POST", "PATCH"} else None
        answer = await client.request(method, path, json=body, headers=ALICE)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    for path in (f"{COMMENTS}/0", f"{COMMENTS}/{2**63}", f"{COMMENTS}/x"):
        assert (await client.get(path, headers=ALICE)).status_code == 422


async def test_comments_go_with_a_deleted_task_and_come_back_with_it(client: httpx2.AsyncClient, task: str) -> None:
    comment = await write(client, task)
    path = f"{COMMENTS}/{comment['id']}"
    await client.delete(task, headers=ALICE)
    assert (await client.get(f"{task}/comments", headers=ALICE)).json()["code"] == "task_not_found"
    assert (await client.post(f"{task}/comments", json={"body": "x"}, headers=ALICE)).status_code == 404
    for headers in (ALICE, BOB):
        for method in ("GET", "PATCH", "DELETE"):
            answer = await client.request(
                method, path, json={"body": "x"} if method == "PATCH" else None, headers=headers
            )
            assert (answer.status_code, answer.json()["code"]) == (404, "comment_not_found")
    await client.post(f"{task}/restore", headers=ALICE)
    assert await listed(client, task) == [comment]


async def test_conditions_hold_for_comments_as_for_tasks(client: httpx2.AsyncClient, task: str) -> None:
    comment = await write(client, task)
    path, first, second = f"{COMMENTS}/{comment['id']}", f'"{comment["id"]}-1"', f'"{comment["id"]}-2"'
    assert (await client.get(path, headers=ALICE | {"If-None-Match": first})).status_code == 304
    edited = await client.patch(path, json={"body": "edited"}, headers=ALICE | {"If-Match": first})
    assert (edited.status_code, edited.headers["etag"]) == (200, second)
    for method in ("PATCH", "DELETE"):
        body = {"body": "lost"} if method == "PATCH" else None
        late = await client.request(method, path, json=body, headers=ALICE | {"If-Match": first})
        assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
        assert late.json()["detail"].startswith(f"The comment was changed meanwhile and is at {second}")
    fresh = await client.get(path, headers=ALICE | {"If-None-Match": first})
    assert (fresh.status_code, fresh.json()["body"]) == (200, "edited")
    assert (await client.delete(path, headers=ALICE | {"If-Match": second})).status_code == 204


async def test_of_two_edits_that_saw_the_same_version_one_is_made(client: httpx2.AsyncClient, task: str) -> None:
    comment = await write(client, task)
    path, condition = f"{COMMENTS}/{comment['id']}", ALICE | {"If-Match": f'"{comment["id"]}-1"'}
    answers = await asyncio.gather(
        *(client.patch(path, json={"body": f"edit {number}"}, headers=condition) for number in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 5]
    (made,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert await listed(client, task) == [made]


async def test_edits_at_once_without_a_condition_are_versions_without_holes(
    client: httpx2.AsyncClient, task: str
) -> None:
    path = f"{COMMENTS}/{(await write(client, task))['id']}"
    edits = [client.patch(path, json={"body": f"edit {number}"}, headers=ALICE) for number in range(6)]
    answers = await asyncio.gather(*edits)
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]


async def test_a_write_sent_again_under_its_key_is_done_once(
    client: httpx2.AsyncClient, database: Database, task: str
) -> None:
    first, again = [
        await client.post(f"{task}/comments", json={"body": "once"}, headers=ALICE | {"Idempotency-Key": "k-1"})
        for _ in range(2)
    ]
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (201, first.content, "true")
    assert (again.headers["location"], again.headers["etag"]) == (first.headers["location"], first.headers["etag"])
    assert await bodies(database) == ["once"]
    path = first.headers["location"]
    edits = [
        await client.patch(path, json={"body": body}, headers=ALICE | key)
        for body, key in (("a", {"Idempotency-Key": "k-2"}), ("b", {}), ("a", {"Idempotency-Key": "k-2"}))
    ]
    assert edits[2].content == edits[0].content
    assert await bodies(database) == ["b"]
    deletions = [await client.delete(path, headers=ALICE | {"Idempotency-Key": "k-3"}) for _ in range(2)]
    assert [answer.status_code for answer in deletions] == [204, 204]
