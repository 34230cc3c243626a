"""What the pool of connections says of itself, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from chassis.database import Database, DatabaseUnavailableError, open_database
from chassis.settings import ServiceSettings
from chassis.testing import PATIENCE, settings_for
from devstack.polling import within
from devstack.throwaway import DatabaseFactory


@asynccontextmanager
async def two_connections(url: str, **settings: object) -> AsyncIterator[Database]:
    sizes = {"database_pool_size": 1, "database_pool_overflow": 1}
    database = open_database(settings_for(ServiceSettings, url, **sizes | settings), application_name="test")
    try:
        yield database
    finally:
        await database.close()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"taskwire_database_pool_{name}", labels) or 0.0


async def test_the_pool_shows_who_holds_connections_and_who_waits(databases: DatabaseFactory) -> None:
    async with databases.empty("chassis") as url, two_connections(url) as database:
        assert value("max_connections") == 2
        asked = value("wait_seconds_count")
        async with database.session():
            async with database.session():
                assert (value("connections", state="in_use"), value("waiting")) == (2, 0)
                waiting = asyncio.create_task(_ask(database))

                async def is_waiting() -> bool:
                    return value("waiting") == 1

                assert await within(PATIENCE, is_waiting, 0.01)
            await waiting
        assert value("wait_seconds_count") - asked == 3
        assert (value("connections", state="in_use"), value("connections", state="idle")) == (0, 1)
        assert value("waiting") == 0


async def test_the_pool_counts_who_got_no_connection(databases: DatabaseFactory) -> None:
    async with databases.empty("chassis") as url, two_connections(url, database_pool_timeout=0.1) as database:
        exhausted, asked = value("exhausted_total"), value("wait_seconds_count")
        async with database.session(), database.session():
            with pytest.raises(DatabaseUnavailableError):
                await _ask(database)
        assert (value("exhausted_total") - exhausted, value("wait_seconds_count") - asked) == (1, 3)
        assert value("waiting") == 0


async def _ask(database: Database) -> None:
    async with database.session():
        pass
