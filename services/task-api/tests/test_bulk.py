"""Many changes in one request: each with its own result and its own event, in few round trips."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer, serving, settings_for
from task_api.app import create_app
from task_api.outbox.models import OutboxEvent
from task_api.settings import TaskApiSettings
from task_events import TaskEventData

TASKS = "/api/v1/tasks"
BULK = f"{TASKS}/bulk"
ALICE, BOB = bearer("alice"), bearer("bob")
JSON = {"Content-Type": "application/json"}
SentStatements = Callable[[], AbstractContextManager[list[str]]]


async def bulk(client: httpx2.AsyncClient, *operations: object, headers: dict[str, str] = ALICE) -> dict[str, Any]:
    response = await client.post(BULK, json={"operations": operations}, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert [result["index"] for result in answer["results"]] == list(range(len(operations)))
    assert answer["succeeded"] + answer["failed"] == len(operations)
    assert answer["failed"] == sum(result["error"] is not None for result in answer["results"])
    return answer


def creations(count: int) -> list[dict[str, Any]]:
    return [{"op": "create", "task": {"title": f"task {number}"}} for number in range(count)]


async def create(client: httpx2.AsyncClient, count: int, headers: dict[str, str] = ALICE) -> list[int]:
    return [result["id"] for result in (await bulk(client, *creations(count), headers=headers))["results"]]


async def get(client: httpx2.AsyncClient, task_id: int) -> dict[str, Any]:
    task: dict[str, Any] = (await client.get(f"{TASKS}/{task_id}", headers=ALICE)).json()
    return task


def outcome(answer: dict[str, Any]) -> list[tuple[int, str | None]]:
    return [(result["status"], (result["error"] or {}).get("code")) for result in answer["results"]]


async def events_in(database: Database) -> list[OutboxEvent]:
    async with database.session() as session:
        return list((await session.exec(select(OutboxEvent).order_by("aggregate_id", "aggregate_version"))).all())


async def test_every_kind_of_operation_is_done_in_order_and_answered_like_its_own_request(
    client: httpx2.AsyncClient,
) -> None:
    first, second, third, fourth = await create(client, 4)
    await client.delete(f"{TASKS}/{fourth}", headers=ALICE)
    answer = await bulk(
        client,
        {"op": "create", "task": {"title": " new ", "priority": "high"}},
        {"op": "update", "id": first, "changes": {"title": "changed"}},
        {"op": "complete", "id": second},
        {"op": "delete", "id": third},
        {"op": "restore", "id": fourth},
        {"op": "reopen", "id": second},
    )
    results = answer["results"]
    assert outcome(answer) == [(201, None), (200, None), (200, None), (204, None), (200, None), (200, None)]
    assert (results[0]["task"]["title"], results[0]["task"]["version"]) == ("new", 1)
    assert results[0]["task"] == await get(client, results[0]["id"])
    assert results[1]["task"] == await get(client, first)
    assert (results[1]["task"]["title"], results[1]["task"]["version"]) == ("changed", 2)
    assert (results[2]["task"]["completed"], results[2]["task"]["version"]) == (True, 2)
    assert results[3] == {"index": 3, "status": 204, "id": third, "task": None, "error": None}
    assert results[4]["task"] == await get(client, fourth)
    assert results[5]["task"] == await get(client, second)
    assert (results[5]["task"]["completed_at"], results[5]["task"]["version"]) == (None, 3)
    assert (await client.get(f"{TASKS}/{third}", headers=ALICE)).status_code == 404


async def test_an_update_leaves_every_field_it_does_not_name_untouched(client: httpx2.AsyncClient) -> None:
    full = {"title": "x", "description": "d", "priority": "low", "due_at": "2027-01-31T09:00:00Z"}
    made = (await bulk(client, {"op": "create", "task": full}))["results"][0]["task"]
    changed = (await bulk(client, {"op": "update", "id": made["id"], "changes": {"priority": "high"}}))["results"][0]
    after = changed["task"]
    assert after == made | {"priority": "high", "version": 2, "updated_at": after["updated_at"]}
    assert after == await get(client, made["id"])


async def test_what_is_refused_fails_alone_and_says_why(client: httpx2.AsyncClient, database: Database) -> None:
    (mine, gone), (bobs, bobs_gone) = await create(client, 2), await create(client, 2, BOB)
    await client.delete(f"{TASKS}/{gone}", headers=ALICE)
    await client.delete(f"{TASKS}/{bobs_gone}", headers=BOB)
    before = len(await events_in(database))
    answer = await bulk(
        client,
        {"op": "complete", "id": bobs},
        {"op": "complete", "id": bobs_gone},
        {"op": "restore", "id": bobs_gone},
        {"op": "complete", "id": 987654},
        {"op": "complete", "id": gone},
        {"op": "update", "id": mine, "version": 7, "changes": {"title": "x"}},
        {"op": "create", "task": {"title": ""}},
        {"op": "complete", "id": mine, "version": 1},
    )
    assert outcome(answer) == [
        (403, "task_forbidden"),
        (404, "task_not_found"),
        (403, "task_forbidden"),
        (404, "task_not_found"),
        (404, "task_not_found"),
        (412, "precondition_failed"),
        (422, "validation_error"),
        (200, None),
    ]
    assert (answer["succeeded"], answer["failed"]) == (1, 7)
    assert (await client.get(f"{TASKS}/{bobs}", headers=BOB)).json()["version"] == 1
    assert len(await events_in(database)) == before + 1


BAD_OPERATIONS: list[tuple[object, str]] = [
    ({}, "op"),
    ({"op": "toggle", "id": 1}, "op"),
    ({"op": "\ud800", "id": 1}, "op"),
    ({"op": None}, "op"),
    (7, "op"),
    (None, "op"),
    ([], "op"),
    ({"op": "create"}, "task"),
    ({"op": "create", "task": {"title": "x" * 201}}, "task.title"),
    ({"op": "create", "task": {"title": "a\x00b"}}, "task.title"),
    ({"op": "create", "task": {"title": "x", "owner_id": "bob"}}, "task.owner_id"),
    ({"op": "create", "id": 7, "task": {"title": "x"}}, "id"),
    ({"op": "update", "id": 1}, "changes"),
    ({"op": "update", "id": 1, "changes": {"version": 9}}, "changes.version"),
    ({"op": "complete"}, "id"),
    ({"op": "complete", "id": "7"}, "id"),
    ({"op": "complete", "id": 0}, "id"),
    ({"op": "complete", "id": 2**63}, "id"),
    ({"op": "complete", "id": 1.5}, "id"),
    ({"op": "complete", "id": True}, "id"),
    ({"op": "complete", "id": 1, "version": 0}, "version"),
    ({"op": "delete", "id": 1, "title": "x"}, "title"),
]


@pytest.mark.parametrize(("operation", "field"), BAD_OPERATIONS, ids=lambda value: repr(value)[:40])
async def test_an_operation_that_cannot_be_read_is_named_and_holds_back_no_other(
    client: httpx2.AsyncClient, operation: object, field: str
) -> None:
    content = json.dumps({"operations": [operation, *creations(1)]})
    response = await client.post(BULK, content=content, headers=ALICE | JSON)
    assert response.status_code == 200, response.text
    assert outcome(response.json()) == [(422, "validation_error"), (201, None)]
    assert response.json()["results"][0]["error"]["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("body", "field", "number"),
    [
        ({"operations": creations(501)}, "operations", "500"),
        ({"operations": []}, "operations", "1"),
        ({"operations": {}}, "operations", ""),
        ({}, "operations", ""),
        ({"operations": creations(1), "atomic": True}, "atomic", ""),
    ],
)
async def test_a_request_that_is_no_list_of_1_to_500_operations_is_refused_as_a_whole(
    client: httpx2.AsyncClient, database: Database, body: object, field: str, number: str
) -> None:
    response = await client.post(BULK, json=body, headers=ALICE)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert number in response.json()["detail"]
    assert await events_in(database) == []


async def test_a_bulk_may_bring_more_than_other_requests_but_not_anything(database_url: str) -> None:
    settings = settings_for(TaskApiSettings, database_url, max_body_bytes=1024, bulk_max_body_bytes=4096)
    async with serving(create_app(settings)) as client:
        large = {"title": "x", "description": "d" * 2000}
        assert (await client.post(TASKS, json=large, headers=ALICE)).status_code == 413
        assert outcome(await bulk(client, {"op": "create", "task": large})) == [(201, None)]
        too_large = {"operations": [{"op": "create", "task": large}] * 2}
        response = await client.post(BULK, json=too_large, headers=ALICE)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
        assert "4096" in response.json()["detail"]


async def test_a_task_named_twice_gets_both_changes_each_with_its_event(
    client: httpx2.AsyncClient, database: Database
) -> None:
    (task_id,) = await create(client, 1)
    answer = await bulk(
        client,
        {"op": "update", "id": task_id, "version": 1, "changes": {"title": "second"}},
        {"op": "complete", "id": task_id, "version": 2},
        {"op": "complete", "id": task_id},
        {"op": "delete", "id": task_id},
        {"op": "update", "id": task_id, "changes": {"title": "too late"}},
        {"op": "restore", "id": task_id},
        {"op": "update", "id": task_id, "version": 2, "changes": {"title": "too old"}},
    )
    assert [status for status, _ in outcome(answer)] == [200, 200, 200, 204, 404, 200, 412]
    versions = [result["task"] and result["task"]["version"] for result in answer["results"]]
    assert versions == [2, 3, 3, None, None, 5, None]
    assert answer["results"][5]["task"] == await get(client, task_id)
    events = await events_in(database)
    assert [(item.aggregate_version, item.type.removeprefix("task.")) for item in events] == [
        (1, "created"),
        (2, "updated"),
        (3, "completed"),
        (4, "deleted"),
        (5, "restored"),
    ]
    data = [TaskEventData.model_validate(item.payload) for item in events]
    assert [(item.task.title, item.task.completed) for item in data[1:]] == [("second", False)] + [("second", True)] * 3
    assert [set(item.changes) for item in data[1:]] == [
        {"title"},
        {"completed", "completed_at"},
        {"deleted_at"},
        {"deleted_at"},
    ]


async def test_the_largest_bulk_takes_one_statement_of_each_kind(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    ids = await create(client, 500)
    assert len(set(ids)) == 500
    tasks = [{"op": "complete", "id": ids[0]}, *creations(499)]
    for number, task_id in enumerate(ids[1:497]):
        kinds: list[dict[str, Any]] = [
            {"op": "complete"},
            {"op": "update", "changes": {"title": f"changed {number}"}},
            {"op": "update", "changes": {"priority": "high", "description": "d"}},
            {"op": "delete"},
        ]
        tasks[number] = kinds[number % 4] | {"id": task_id}
    tasks[497] = {"op": "complete", "id": 987654}
    with sent_statements() as sent:
        answer = await bulk(client, *tasks, headers=ALICE | {"Idempotency-Key": "k-1"})
    assert (answer["succeeded"], answer["failed"]) == (499, 1)
    assert sent == [
        "SELECT",  # hold the key
        "SELECT",  # was it used
        "SELECT",  # wait for who changes several tasks, too
        "SELECT",  # lock those named
        "SELECT",  # is the missing one someone else's
        "SELECT",  # which have subtasks
        "SELECT",  # take ids
        "INSERT",  # tasks
        "UPDATE",  # tasks
        "INSERT",  # events
        "INSERT",  # what was completed
        "INSERT",  # the key with the answer
    ]
    with sent_statements() as sent:
        await bulk(client, *({"op": "complete", "id": task_id} for task_id in ids[:400]))
    assert sent == ["SELECT", "SELECT", "SELECT", "UPDATE", "INSERT", "INSERT"]


async def test_bulks_of_any_size_send_the_same_statements(database_url: str) -> None:
    """PostgreSQL keeps each statement prepared, on each connection: one for each size would fill its memory."""
    one_connection = {"database_pool_size": 1, "database_pool_overflow": 0, "database_pool_timeout": 30}
    settings = settings_for(TaskApiSettings, database_url, **one_connection)
    app = create_app(settings)

    async def prepared() -> set[str]:
        async with app.state.database.session() as session:
            texts = await (await session.connection()).execute(text("SELECT statement FROM pg_prepared_statements"))
            return {statement for statement in texts.scalars() if "tasks" in statement or "INSERT" in statement}

    async with serving(app) as client:
        await prepared()
        seen = []
        for size in (2, 3, 50, 250):
            ids = await create(client, size)
            missing = [987654 + number for number in range(size)]
            await bulk(client, *({"op": "complete", "id": task_id} for task_id in ids + missing))
            seen.append(await prepared())
    assert seen[1:] == seen[:1] * 3


async def test_new_tasks_get_their_ids_in_the_order_of_the_request(client: httpx2.AsyncClient) -> None:
    results = (await bulk(client, *creations(50)))["results"]
    assert [result["task"]["title"] for result in results] == [f"task {number}" for number in range(50)]
    assert [result["id"] for result in results] == sorted(result["id"] for result in results)


async def test_a_bulk_sent_again_under_its_key_is_done_once(client: httpx2.AsyncClient, database: Database) -> None:
    headers = ALICE | {"Idempotency-Key": "k-1"}
    body = {"operations": [*creations(3), {"op": "complete", "id": 987654}]}
    first, again = [await client.post(BULK, json=body, headers=headers) for _ in range(2)]
    assert (first.content, again.headers["idempotent-replayed"]) == (again.content, "true")
    assert len(await events_in(database)) == 3
    other = await client.post(BULK, json={"operations": creations(3)}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_bulks_and_single_writes_at_once_leave_contiguous_versions(
    client: httpx2.AsyncClient, database: Database
) -> None:
    ids = await create(client, 5)
    forwards = [{"op": "update", "id": task_id, "changes": {"title": "bulk"}} for task_id in ids]
    singles = [client.post(f"{TASKS}/{task_id}/toggle", headers=ALICE) for task_id in ids * 3]
    bulks = [bulk(client, *order) for order in (forwards, forwards[::-1]) * 3]
    answers = await asyncio.gather(*singles, *bulks)
    assert all(answer.status_code == 200 for answer in answers if isinstance(answer, httpx2.Response))
    assert not any(answer["failed"] for answer in answers if isinstance(answer, dict))
    by_task: dict[int, list[int]] = {}
    for item in await events_in(database):
        by_task.setdefault(item.aggregate_id, []).append(item.aggregate_version)
    for task_id in ids:
        assert by_task[task_id] == list(range(1, len(by_task[task_id]) + 1))
        assert (await get(client, task_id))["version"] == by_task[task_id][-1] == 5


async def test_of_a_bulk_and_a_patch_that_saw_the_same_version_one_wins(client: httpx2.AsyncClient) -> None:
    for task_id in await create(client, 5):
        many, single = await asyncio.gather(
            bulk(client, {"op": "update", "id": task_id, "version": 1, "changes": {"title": "bulk"}}),
            client.patch(
                f"{TASKS}/{task_id}", json={"title": "single"}, headers=ALICE | {"If-Match": f'"{task_id}-1"'}
            ),
        )
        assert {many["results"][0]["status"], single.status_code} == {200, 412}
        assert (await get(client, task_id))["title"] == ("single" if single.status_code == 200 else "bulk")


@pytest.fixture
async def outbox_refuses(database: Database) -> None:
    """Makes PostgreSQL refuse any event of a task with a certain title."""
    sql = "ALTER TABLE outbox ADD CHECK (payload->'task'->>'title' <> 'poison')"
    async with database.session() as session:
        await (await session.connection()).execute(text(sql))
        await session.commit()


@pytest.mark.usefixtures("outbox_refuses")
async def test_when_the_database_refuses_one_event_nothing_of_the_bulk_was_done(
    client: httpx2.AsyncClient, database: Database
) -> None:
    poison = {"op": "create", "task": {"title": "poison"}}
    response = await client.post(BULK, json={"operations": [*creations(2), poison]}, headers=ALICE)
    assert response.status_code == 500
    assert (await client.get(TASKS, headers=ALICE)).json()["items"] == []
    assert await events_in(database) == []


async def test_who_is_not_authenticated_does_nothing(client: httpx2.AsyncClient) -> None:
    assert (await client.post(BULK, json={"operations": creations(1)})).status_code == 401


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{", b"[" * 900_000, b'{"operations": ' + b"[" * 900_000, b'{"operations": [NaN, Infinity]}',
     b'{"operations": [{"op": "complete", "id": ' + b"9" * 5000 + b"}]}", b'\xff{"operations": []}',
     b'{"operations": [{"op": "create", "task": {"title": "\\ud800"}}]}'],
    ids=lambda value: repr(value[:40]),
)  # fmt: skip
async def test_no_body_whatever_it_is_gets_a_5xx_or_makes_a_task(client: httpx2.AsyncClient, content: bytes) -> None:
    response = await client.post(BULK, content=content, headers=ALICE | JSON)
    assert response.status_code in {200, 400, 422}, response.text
    if response.status_code == 200:
        assert response.json()["succeeded"] == 0
    assert (await client.get(TASKS, headers=ALICE)).json()["items"] == []
