"""This release on the schema of the next one: what the rule of migrations lets a revision add is in nobody's way."""

import asyncpg
import pytest
from tests.postgres.stories import KEPT, consumer, story_of_a_task, story_of_events

from chassis.migrations import upgrade
from chassis.testing import bearer, serving, settings_for
from devstack.databases import CONNECT_TIMEOUT, quoted
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

TABLES = "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


async def let_the_next_release_add_to_every_table(url: str) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
    for table in await connection.fetch(TABLES):
        added = "ADD COLUMN may_be_null text, ADD COLUMN has_a_default text NOT NULL DEFAULT 'x'"
        await connection.execute(f"ALTER TABLE {quoted(table['name'])} {added}")
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()


async def test_tasks_are_made_changed_and_listed(databases: DatabaseFactory) -> None:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        await let_the_next_release_add_to_every_table(url)
        nobody = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
        async with serving(create_app(settings_for(TaskApiSettings, url, **nobody))) as client:
            assert (await client.get("/health/ready")).status_code == 200
            await story_of_a_task(client)
            for path, body in (("engagements", {"name": "x"}), ("api-keys", {"name": "x", "scopes": ["tasks:read"]})):
                made = await client.post(f"/api/v1/{path}", json=body, headers=bearer("alice"))
                assert made.status_code == 201, made.text


@pytest.mark.parametrize("module", KEPT)
async def test_events_are_taken(databases: DatabaseFactory, module: str) -> None:
    async with databases.fresh(module, lambda url: upgrade(module, url)) as url:
        await let_the_next_release_add_to_every_table(url)
        async with serving(consumer(module, url)) as client:
            assert (await client.get("/health/ready")).status_code == 200
            await story_of_events(client)
        connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
        found = [row["has_a_default"] for row in await connection.fetch(f"SELECT has_a_default FROM {KEPT[module]}")]
        await connection.close()
        assert found == ["x", "x"], "each event, and none among the dead letters"
