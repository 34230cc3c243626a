"""The schema: up, down and up again on data, and the same as the models say."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from chassis.migrations import downgrade, upgrade
from chassis.schema_comparison import schema_differences
from chassis.testing import serving, settings_for
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
