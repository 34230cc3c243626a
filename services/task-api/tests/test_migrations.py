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
from chassis.testing import bearer, serving, settings_for
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.models import Model
from task_api.settings import TaskApiSettings


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
        async with asyncio.timeout(90):
            with pytest.raises((ConnectionError, TimeoutError)) as failure:
                await asyncio.to_thread(upgrade, "task_api", url)
        assert isinstance(failure.value, TimeoutError if listens else ConnectionError)
