"""The services on the PostgreSQL that this machine has, which is older than the wheel's mostly: 15 is Debian 12's.

`make test-postgres` runs all tests of the services on one.
"""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from sqlalchemy import text
from tests.postgres.stories import KEPT, consumer, story_of_a_task, story_of_events
from tests.postgres.tls_servers import installed_postgres

from chassis.database import open_database
from chassis.migrations import downgrade, upgrade
from chassis.settings import ServiceSettings
from chassis.testing import serving, settings_for
from devstack.databases import CONNECT_TIMEOUT
from devstack.throwaway import DatabaseFactory, ThrowawayPostgres
from task_api.app import create_app
from task_api.settings import TaskApiSettings


@pytest.fixture(scope="module")
def installed() -> Iterator[DatabaseFactory]:
    if (programs := installed_postgres()) is None:
        pytest.skip("NOT TESTED on another PostgreSQL than the wheel's: apt-get install postgresql")
    with ThrowawayPostgres(programs=programs) as postgres:
        yield DatabaseFactory(postgres.server)


async def test_tasks_are_made_changed_and_listed(installed: DatabaseFactory) -> None:
    async with installed.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        alone = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
        async with serving(create_app(settings_for(TaskApiSettings, url, **alone))) as client:
            await story_of_a_task(client)
        await asyncio.to_thread(downgrade, "task_api", url, "base")


@pytest.mark.parametrize("module", KEPT)
async def test_events_are_taken(installed: DatabaseFactory, module: str) -> None:
    async with installed.fresh(module, lambda url: upgrade(module, url)) as url:
        async with serving(consumer(module, url)) as client:
            await story_of_events(client)
        connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
        assert await connection.fetchval(f"SELECT count(*) FROM {KEPT[module]}") == 2, "each once"
        await connection.close()
        await asyncio.to_thread(downgrade, module, url, "base")


async def test_limits_that_it_does_not_know_are_left_out(installed: DatabaseFactory) -> None:
    async with installed.empty("chassis") as url:
        settings = settings_for(ServiceSettings, url, database_statement_timeout=4, database_transaction_timeout=9)
        database = open_database(settings, application_name="test")
        limits = {"statement_timeout": "4s", "transaction_timeout": "9s"}
        known = text("SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(:names)")
        async with database.session() as session:
            found = (await (await session.connection()).execute(known, {"names": list(limits)})).all()
        assert ("statement_timeout", "4s") in [tuple(row) for row in found]
        assert all(limits[name] == value for name, value in found)
        await database.close()
