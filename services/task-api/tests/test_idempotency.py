"""`Idempotency-Key`: however often a request is sent, and whatever dies, it is done once and answered alike."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlmodel import select

from chassis.database import Database
from chassis.testing import PATIENCE, bearer, serving, settings_for
from devstack.polling import within
from task_api.app import create_app
from task_api.idempotency.models import IdempotencyKey
from task_api.idempotency.service import Idempotency
from task_api.outbox.models import OutboxEvent
from task_api.settings import TaskApiSettings

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
REPLAYED = "idempotent-replayed"
WAITING = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
SentStatements = Callable[[], AbstractContextManager[list[str]]]


def keyed(key: str, caller: dict[str, str] = ALICE) -> dict[str, str]:
    return caller | {"Idempotency-Key": key}


async def rows(database: Database, sql: str) -> list[Any]:
    async with database.session() as session:
        return list(await (await session.connection()).execute(text(sql)))


async def events_in(database: Database) -> list[str]:
    async with database.session() as session:
        return [event.type for event in (await session.exec(select(OutboxEvent).order_by("id"))).all()]


async def new_task(client: httpx2.AsyncClient) -> str:
    return str((await client.post(TASKS, json={"title": "Buy milk"}, headers=ALICE)).headers["location"])


async def test_a_create_sent_again_makes_one_task_and_gets_the_same_answer(
    client: httpx2.AsyncClient, database: Database
) -> None:
    first, again = [await client.post(TASKS, json={"title": "Buy milk"}, headers=keyed("k-1")) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert first.content == again.content
    for header in ("location", "etag", "content-type", "cache-control", "vary"):
        assert first.headers[header] == again.headers[header]
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    assert await events_in(database) == ["task.created"]


async def test_the_answer_is_the_one_given_then_whatever_happened_since(
    client: httpx2.AsyncClient, database: Database
) -> None:
    path = await new_task(client)
    first = await client.post(f"{path}/toggle", headers=keyed("k-1"))
    await client.patch(path, json={"title": "Buy bread"}, headers=ALICE)
    again = await client.post(f"{path}/toggle", headers=keyed("k-1"))
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert (await client.get(path, headers=ALICE)).json()["version"] == 3


@pytest.mark.parametrize(
    ("method", "action", "body"),
    [("PATCH", "", {"title": "x"}), ("DELETE", "", None), ("POST", "/complete", None), ("POST", "/reopen", None),
     ("POST", "/restore", None), ("PUT", "", {"title": "x", "description": None, "priority": "low", "due_at": None,
                                              "completed": True, "tags": [], "parent_id": None,
                                              "recurrence": None})],
)  # fmt: skip
async def test_every_write_takes_a_key_even_one_that_changes_nothing(
    client: httpx2.AsyncClient, method: str, action: str, body: object
) -> None:
    path = await new_task(client)
    first, again = [await client.request(method, path + action, json=body, headers=keyed("k-1")) for _ in range(2)]
    assert first.status_code == again.status_code == (204 if method == "DELETE" else 200)
    assert (first.content, again.headers[REPLAYED]) == (again.content, "true")


async def test_a_key_belongs_to_its_caller(client: httpx2.AsyncClient) -> None:
    answers = [await client.post(TASKS, json={"title": "x"}, headers=keyed("k-1", who)) for who in (ALICE, BOB)]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    assert not any(REPLAYED in answer.headers for answer in answers)


async def test_a_key_without_a_credential_is_worth_nothing(client: httpx2.AsyncClient) -> None:
    await client.post(TASKS, json={"title": "x"}, headers=keyed("k-1"))
    assert (await client.post(TASKS, json={"title": "x"}, headers=keyed("k-1", {}))).status_code == 401


async def test_the_same_key_for_another_request_is_refused(client: httpx2.AsyncClient, database: Database) -> None:
    path = await new_task(client)
    await client.post(f"{path}/toggle", headers=keyed("k-1") | {"If-Match": "*"})
    others = [
        client.post(f"{path}/toggle", headers=keyed("k-1")),
        client.post(f"{path}/toggle?x=1", headers=keyed("k-1") | {"If-Match": "*"}),
        client.post(f"{path}/complete", headers=keyed("k-1") | {"If-Match": "*"}),
        client.patch(path, json={"title": "x"}, headers=keyed("k-1") | {"If-Match": "*"}),
        client.post(TASKS, json={"title": "x"}, headers=keyed("k-1")),
    ]
    for other in others:
        answer = await other
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await events_in(database) == ["task.created", "task.completed"]


async def test_what_was_refused_is_not_kept_so_the_key_stays_free(
    client: httpx2.AsyncClient, database: Database
) -> None:
    path = await new_task(client)
    for refused in (
        client.post(TASKS, json={"title": ""}, headers=keyed("k-1")),
        client.post(f"{TASKS}/987654/toggle", headers=keyed("k-1")),
        client.post(f"{path}/toggle", headers=keyed("k-1") | {"If-Match": '"x"'}),
    ):
        assert (await refused).status_code in {404, 412, 422}
    assert await rows(database, "SELECT 1 FROM idempotency_keys") == []
    assert (await client.post(f"{path}/toggle", headers=keyed("k-1"))).status_code == 200


@asynccontextmanager
async def row_locked(database: Database, path: str) -> AsyncIterator[None]:
    """Holds a task's row, so that any write to it waits right before its change."""
    async with database.session() as session:
        statement = text("SELECT 1 FROM tasks WHERE id = :id FOR UPDATE")
        await (await session.connection()).execute(statement, {"id": int(path.rsplit("/", 1)[1])})
        yield


async def a_statement_waits(database: Database) -> bool:
    return bool(await rows(database, f"SELECT 1 {WAITING}"))


async def test_while_the_first_is_in_flight_the_second_is_told_to_wait(
    client: httpx2.AsyncClient, database: Database
) -> None:
    path = await new_task(client)
    async with row_locked(database, path):
        first = asyncio.create_task(client.post(f"{path}/toggle", headers=keyed("k-1")))
        assert await within(PATIENCE, lambda: a_statement_waits(database), 0.01)
        second = await client.post(f"{path}/toggle", headers=keyed("k-1"))
        assert (second.status_code, second.json()["code"]) == (409, "idempotency_key_in_use")
        assert second.headers["retry-after"] == "1"
    assert (await first).status_code == 200
    third = await client.post(f"{path}/toggle", headers=keyed("k-1"))
    assert (third.content, third.headers[REPLAYED]) == ((await first).content, "true")


async def test_many_identical_requests_at_once_are_done_once(client: httpx2.AsyncClient, database: Database) -> None:
    for number in range(4):
        key = keyed(f"k-{number}")
        answers = await asyncio.gather(*(client.post(TASKS, json={"title": "x"}, headers=key) for _ in range(8)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
        assert sum(answer.status_code == 201 and REPLAYED not in answer.headers for answer in answers) == 1
    assert await events_in(database) == ["task.created"] * 4


async def test_two_toggles_with_two_keys_are_two_toggles(client: httpx2.AsyncClient) -> None:
    path = await new_task(client)
    answers = await asyncio.gather(*(client.post(f"{path}/toggle", headers=keyed(key)) for key in ("k-1", "k-2")))
    assert sorted(answer.json()["version"] for answer in answers) == [2, 3]


async def test_a_process_that_dies_before_the_commit_leaves_nothing_and_the_key_free(
    client: httpx2.AsyncClient, database: Database
) -> None:
    """The write is stopped where it stores its key, the last statement before the commit, and its connection cut."""
    async with database.session() as session:
        statement = "INSERT INTO idempotency_keys VALUES ('alice', 'k-1', '', 200, '{}', '', now(), now() + '1 day')"
        await (await session.connection()).execute(text(statement))
        first = asyncio.create_task(client.post(TASKS, json={"title": "x"}, headers=keyed("k-1")))
        assert await within(PATIENCE, lambda: a_statement_waits(database), 0.01)
        await rows(database, f"SELECT pg_terminate_backend(pid) {WAITING}")
        assert (await first).status_code == 503
    assert await events_in(database) == []
    assert await rows(database, "SELECT 1 FROM tasks") == []
    again = await client.post(TASKS, json={"title": "x"}, headers=keyed("k-1"))
    assert (again.status_code, REPLAYED in again.headers) == (201, False)


async def test_after_the_commit_another_process_gives_the_answer(app: FastAPI, settings: TaskApiSettings) -> None:
    async with serving(app) as client:
        first = await client.post(TASKS, json={"title": "x"}, headers=keyed("k-1"))
    async with serving(create_app(settings)) as client:
        again = await client.post(TASKS, json={"title": "x"}, headers=keyed("k-1"))
    assert (again.content, again.headers[REPLAYED]) == (first.content, "true")


async def test_of_a_request_only_its_hash_is_kept(client: httpx2.AsyncClient, database: Database) -> None:
    path = await new_task(client)
    await client.delete(path, headers=keyed("k-1"))
    ((fingerprint, body),) = await rows(database, "SELECT fingerprint, body FROM idempotency_keys")
    assert (len(fingerprint), body) == (32, b"")


async def test_an_expired_key_is_free_again_before_and_after_the_purge(database_url: str, database: Database) -> None:
    settings = settings_for(TaskApiSettings, database_url, idempotency_lifetime=60)
    async with serving(create_app(settings)) as client:
        made = [await client.post(TASKS, json={"title": "x"}, headers=keyed(f"k-{number}")) for number in range(3)]
        ((left,),) = await rows(
            database, "SELECT max(extract(epoch FROM expires_at - created_at)) FROM idempotency_keys"
        )
        assert left == 60
        async with database.session() as session:
            expire = "UPDATE idempotency_keys SET expires_at = now() - interval '1 s' WHERE key <> 'k-2'"
            await (await session.connection()).execute(text(expire))
            await session.commit()
        fresh = await client.post(TASKS, json={"title": "another"}, headers=keyed("k-0"))
        assert (fresh.status_code, REPLAYED in fresh.headers) == (201, False)
        # None where the service's own was late, and took it away before.
        assert await Idempotency(lifetime=60).purge(database) in {0, 1}
        assert [row.key for row in await rows(database, "SELECT key FROM idempotency_keys ORDER BY key")] == [
            "k-0",
            "k-2",
        ]
        again = await client.post(TASKS, json={"title": "x"}, headers=keyed("k-2"))
        assert again.json()["id"] == made[2].json()["id"]


async def test_a_purge_does_not_wait_for_that_of_another_replica(database: Database) -> None:
    async with database.session() as session:
        expired = """
            INSERT INTO idempotency_keys
            SELECT 'alice', number, '', 200, '{}', '', now(), now() FROM generate_series(1, 2500) AS number
        """
        await (await session.connection()).execute(text(expired))
        await session.commit()
    async with database.session() as other:
        await (await other.connection()).execute(text("DELETE FROM idempotency_keys WHERE key < '2'"))
        being_deleted = 2500 - await Idempotency(lifetime=60).purge(database)
    assert 0 < being_deleted < 2500
    assert await Idempotency(lifetime=60).purge(database) == being_deleted


async def test_a_running_service_forgets_expired_keys_by_itself(app: FastAPI, database: Database) -> None:
    async with database.session() as session:
        session.add(
            IdempotencyKey(
                owner_id="alice",
                key="old",
                fingerprint=b"",
                status=200,
                headers={},
                body=b"",
                expires_at=datetime(2020, 1, 1, tzinfo=UTC),
            )
        )
        await session.commit()

    async def forgotten() -> bool:
        return not await rows(database, "SELECT 1 FROM idempotency_keys")

    async with serving(app):
        assert await within(PATIENCE, forgotten, 0.05)


async def test_a_key_costs_three_round_trips_and_a_write_without_one_none(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    path = await new_task(client)
    with sent_statements() as sent:
        await client.post(f"{path}/toggle", headers=ALICE)
    wanted = ["SELECT", "SELECT", "WITH", "UPDATE", "INSERT", "INSERT"]
    assert sent == wanted, "the first and the third are for subtasks, to wait for them and to complete them too"
    with sent_statements() as sent:
        await client.post(f"{path}/toggle", headers=keyed("k-1"))
    assert sent == ["SELECT", "SELECT", "SELECT", "SELECT", "UPDATE", "INSERT", "UPDATE", "INSERT"]
    with sent_statements() as sent:
        await client.post(f"{path}/toggle", headers=keyed("k-1"))
    assert sent == ["SELECT", "SELECT"]


async def test_a_quoted_key_is_the_same_key(client: httpx2.AsyncClient) -> None:
    first = await client.post(TASKS, json={"title": "x"}, headers=keyed("k-1"))
    again = await client.post(TASKS, json={"title": "x"}, headers=keyed('"k-1"'))
    assert (again.content, again.headers[REPLAYED]) == (first.content, "true")


@pytest.mark.parametrize(
    "key", ["", " ", '""', "a b", '"a', 'a"b', "x" * 256, '"' + "x" * 256 + '"', "k\xe9y", '"a\\n"']
)
async def test_what_is_no_key_is_refused_with_the_limit(client: httpx2.AsyncClient, key: str) -> None:
    headers = [(b"Authorization", ALICE["Authorization"].encode()), (b"Idempotency-Key", key.encode("latin-1"))]
    answer = await client.post(TASKS, json={"title": "x"}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "header.Idempotency-Key"
    assert "255" in answer.json()["detail"]


async def test_two_keys_on_one_request_are_refused(client: httpx2.AsyncClient) -> None:
    headers = [*ALICE.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await client.post(TASKS, json={"title": "x"}, headers=headers)).status_code == 422


async def test_the_longest_key_is_taken(client: httpx2.AsyncClient) -> None:
    assert (await client.post(TASKS, json={"title": "x"}, headers=keyed("x" * 255))).status_code == 201
