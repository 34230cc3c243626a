"""The schema: up, down and up again on data, and the same as the models say."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from chassis.migrations import downgrade, upgrade
from chassis.schema_comparison import schema_differences
from chassis.testing import PATIENCE, bearer, serving, settings_for
from devstack.polling import within
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.models import Model
from task_api.settings import TaskApiSettings

TASK_OF = """
    INSERT INTO tasks (owner_id, title, priority, completed, tags, version, created_at, updated_at)
    VALUES ('{}', 'milk', 'low', false, ARRAY['cow'], 1, now(), now())
"""


@pytest.fixture
async def empty_url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.empty("task_api") as url:
        yield url


async def test_the_migrated_schema_is_what_the_models_say(database_url: str) -> None:
    assert await schema_differences(database_url, Model.metadata) == []


async def test_up_down_and_up_again_leaves_a_working_service(empty_url: str) -> None:
    await asyncio.to_thread(upgrade, "task_api", empty_url)
    await asyncio.to_thread(downgrade, "task_api", empty_url, "base")
    await asyncio.to_thread(upgrade, "task_api", empty_url)
    await asyncio.to_thread(upgrade, "task_api", empty_url)  # a second time does nothing
    async with serving(create_app(settings_for(TaskApiSettings, empty_url))) as client:
        assert (await client.get("/health/ready")).status_code == 200


async def test_the_history_begins_with_what_is_completed_and_tasks_outlive_it(empty_url: str) -> None:
    await asyncio.to_thread(upgrade, "task_api", empty_url, "0004")
    connection = await asyncpg.connect(empty_url)
    await connection.execute(
        """
        INSERT INTO tasks
            (owner_id, title, priority, completed, completed_at, version, created_at, updated_at, deleted_at)
        VALUES ('alice', 'done', 'low', true, '2026-01-02Z', 1, now(), now(), NULL),
               ('alice', 'open', 'low', false, NULL, 1, now(), now(), NULL),
               ('bob', 'done before', 'low', true, '2026-01-01Z', 1, now(), now(), now())
        """
    )
    began = "SELECT owner_id, title, task_id = series_id, reopened_at, completed_at FROM completions ORDER BY id"
    for _ in range(2):
        await asyncio.to_thread(upgrade, "task_api", empty_url)
        assert [tuple(row) for row in await connection.fetch(began)] == [
            ("bob", "done before", True, None, datetime(2026, 1, 1, tzinfo=UTC)),
            ("alice", "done", True, None, datetime(2026, 1, 2, tzinfo=UTC)),
        ]
        comment = "INSERT INTO comments (task_id, author_id, body, version, created_at) VALUES ($1, 'a', 'b', 1, now())"
        await connection.execute(comment, await connection.fetchval("SELECT max(id) FROM tasks"))
        async with serving(create_app(settings_for(TaskApiSettings, empty_url))) as client:
            done = (await client.get("/api/v1/completions", headers=bearer("alice"))).json()["items"]
            assert [item["title"] for item in done] == ["done"]
            reopened = await client.post(f"/api/v1/tasks/{done[0]['task_id']}/reopen", headers=bearer("alice"))
            assert reopened.status_code == 200
            again = await client.post(f"/api/v1/tasks/{done[0]['task_id']}/complete", headers=bearer("alice"))
            assert again.status_code == 200
        assert await connection.fetchval("SELECT count(*) FROM completions") == 3
        await asyncio.to_thread(downgrade, "task_api", empty_url, "0004")
        assert await connection.fetchval("SELECT count(*) FROM tasks") == 3
        await connection.execute("UPDATE tasks SET completed_at = '2026-01-02Z' WHERE title = 'done'")
    await connection.close()


async def test_search_works_before_and_after_its_index_is_replaced_even_when_half_of_that_was_done(
    empty_url: str,
) -> None:
    await asyncio.to_thread(upgrade, "task_api", empty_url, "0007")
    connection = await asyncpg.connect(empty_url)
    await connection.execute(TASK_OF.format("alice"))
    await connection.execute(TASK_OF.format("bob"))
    by_release_before = r"""
        SELECT count(*) FROM tasks WHERE owner_id = 'alice' AND deleted_at IS NULL
        AND search @@ ('''' || chr(1) || md5('alice') || '''')::tsquery AND search @@ to_tsquery('simple', '''mil'':*')
    """
    indexes = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'tasks'::regclass AND indisvalid"
    for _ in range(2):
        with pytest.raises(asyncpg.UniqueViolationError):  # leaves an index that is not valid, as a kill does
            await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY tasks_words_idx ON tasks (title)")
        await asyncio.to_thread(upgrade, "task_api", empty_url)
        names = {row[0] for row in await connection.fetch(indexes)}
        assert {"tasks_words_idx", "tasks_owner_id_title_idx"} <= names
        assert not {"tasks_search_idx", "tasks_owner_id_id_idx"} & names
        async with serving(create_app(settings_for(TaskApiSettings, empty_url))) as client:
            for query in ("q=mil", "tag=cow"):
                page = (await client.get(f"/api/v1/tasks?{query}", headers=bearer("alice"))).json()
                assert [task["title"] for task in page["items"]] == ["milk"]
        assert await connection.fetchval(by_release_before) == 1
        await asyncio.to_thread(downgrade, "task_api", empty_url, "0007")
        assert "tasks_search_idx" in {row[0] for row in await connection.fetch(indexes)}
        assert await connection.fetchval(by_release_before) == 1
    await connection.close()


async def test_tasks_are_written_while_the_index_of_words_is_made(empty_url: str) -> None:
    await asyncio.to_thread(upgrade, "task_api", empty_url, "0007")
    slow, other, watcher = [await asyncpg.connect(empty_url) for _ in range(3)]
    holding = slow.transaction()
    await holding.start()
    await slow.execute(TASK_OF.format("alice"))  # the index waits for those who were writing
    making = asyncio.create_task(asyncio.to_thread(upgrade, "task_api", empty_url))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'"

    async def is_waiting() -> bool:
        return bool(await watcher.fetchval(waiting))

    assert await within(PATIENCE, is_waiting, 0.1)
    await other.execute("SET lock_timeout = '90s'")
    await other.execute(TASK_OF.format("bob"))
    await holding.commit()
    await making
    for connection in (slow, other, watcher):
        await connection.close()


async def test_profiles_and_erasures_go_and_come_back_beside_data_that_stay(empty_url: str) -> None:
    connection = await asyncpg.connect(empty_url)
    for _ in range(2):
        await asyncio.to_thread(upgrade, "task_api", empty_url)
        async with serving(create_app(settings_for(TaskApiSettings, empty_url))) as client:
            for user in ("alice", "bob"):
                made = await client.post("/api/v1/tasks", json={"title": "stays"}, headers=bearer(user))
                named = await client.patch("/api/v1/users/me", json={"name": "x"}, headers=bearer(user))
                assert (made.status_code, named.json()["version"]) == (201, 1)
            ended = await client.request("DELETE", "/api/v1/users/me", json={"confirm": "bob"}, headers=bearer("bob"))
            assert ended.status_code == 202
        topics = "SELECT topic, count(*) FROM outbox GROUP BY topic ORDER BY topic"
        assert [row["topic"] for row in await connection.fetch(topics)] == ["accounts", "tasks"]
        tasks = await connection.fetchval("SELECT count(*) FROM tasks")
        await asyncio.to_thread(downgrade, "task_api", empty_url, "0008")
        assert await connection.fetchval("SELECT count(*) FROM tasks") == tasks
        # One of each event of a task, as the release before wants it; the request to erase bob is given up.
        assert await connection.fetchval("SELECT count(*) FROM outbox") == tasks
    await connection.close()


async def test_api_keys_come_and_go_and_come_again_beside_data(empty_url: str) -> None:
    await asyncio.to_thread(upgrade, "task_api", empty_url)
    connection = await asyncpg.connect(empty_url)
    new = {"name": "x", "scopes": ["tasks:read", "tasks:write"]}
    for turn in range(2):
        async with serving(create_app(settings_for(TaskApiSettings, empty_url))) as client:
            made = await client.post("/api/v1/api-keys", json=new, headers=bearer("alice"))
            key = {"Authorization": f"Bearer {made.json()['key']}"}
            assert (await client.post("/api/v1/tasks", json={"title": "x"}, headers=key)).status_code == 201
        assert await connection.fetchval("SELECT count(*) FROM api_key_secrets") == 1
        await asyncio.to_thread(downgrade, "task_api", empty_url, "0008")
        assert await connection.fetchval("SELECT to_regclass('api_keys') IS NULL")
        await asyncio.to_thread(upgrade, "task_api", empty_url)
        assert await connection.fetchval("SELECT count(*) FROM tasks") == turn + 1
    await connection.close()


async def test_replicas_may_migrate_at_once(empty_url: str) -> None:
    settings = settings_for(TaskApiSettings, empty_url)
    environment = os.environ | {
        "TASKWIRE_ENVIRONMENT": "development",
        "TASKWIRE_PORT": "1",
        "TASKWIRE_DATABASE_URL": empty_url,
        "TASKWIRE_AUTH_ISSUER": settings.auth_issuer,
        "TASKWIRE_AUTH_AUDIENCE": settings.auth_audience,
        "TASKWIRE_AUTH_HS256_SECRET": "s" * 32,
        "DAPR_API_TOKEN": "d" * 32,
        "APP_API_TOKEN": "a" * 32,
    }
    command = (sys.executable, "-m", "task_api", "migrate")
    replicas = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(3)]
    assert [await replica.wait() for replica in replicas] == [0, 0, 0]


async def test_readiness_says_that_the_schema_is_missing_and_what_to_do(empty_url: str) -> None:
    async with serving(create_app(settings_for(TaskApiSettings, empty_url))) as client:
        response = await client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["code"] == "not_ready"
    assert "python -m task_api migrate" in response.json()["detail"]


async def test_without_a_database_the_service_lives_is_not_ready_and_asks_callers_to_come_back() -> None:
    async with serving(create_app(settings_for(TaskApiSettings))) as client:
        assert (await client.get("/health/live")).status_code == 200
        response = await client.get("/health/ready")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "database" in response.json()["detail"]


@pytest.mark.parametrize("listens", [False, True], ids=["refuses", "says nothing"])
async def test_a_database_that_cannot_be_reached_ends_the_migration(listens: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        url = f"postgresql://nobody:nothing@127.0.0.1:{server.getsockname()[1]}/nowhere"
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((ConnectionError, TimeoutError)) as failure:
                await asyncio.to_thread(upgrade, "task_api", url)
        assert isinstance(failure.value, TimeoutError if listens else ConnectionError)
