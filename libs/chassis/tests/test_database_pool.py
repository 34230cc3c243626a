"""What the pool of connections says of itself, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from chassis.database import Database, DatabaseUnavailableError, open_database
from chassis.settings import ServiceSettings
from chassis.testing import settings_for
from devstack.polling import within
from devstack.throwaway import DatabaseFactory

PATIENCE = 90.0


@pytest.fixture
async def database(databases: DatabaseFactory) -> AsyncIterator[Database]:
    async with databases.empty("chassis") as url:
        sizes = {"database_pool_size": 1, "database_pool_overflow": 1, "database_pool_timeout": 1.0}
        database = open_database(settings_for(ServiceSettings, url, **sizes), application_name="test")
        yield database
        await database.close()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"taskwire_database_pool_{name}", labels) or 0.0


async def test_the_pool_shows_who_holds_connections_who_waits_and_who_got_none(database: Database) -> None:
    assert value("max_connections") == 2
    exhausted, asked = value("exhausted_total"), value("wait_seconds_count")
    async with database.session(), database.session():
        assert (value("connections", state="in_use"), value("waiting")) == (2, 0)
        waiting = asyncio.create_task(_ask(database))

        async def is_waiting() -> bool:
            return value("waiting") == 1

        assert await within(PATIENCE, is_waiting, 0.01)
        with pytest.raises(DatabaseUnavailableError):
            await waiting
    assert value("exhausted_total") - exhausted == 1
    assert value("wait_seconds_count") - asked == 3
    assert (value("connections", state="in_use"), value("connections", state="idle")) == (0, 1)
    assert value("waiting") == 0


async def _ask(database: Database) -> None:
    async with database.session():
        pass
