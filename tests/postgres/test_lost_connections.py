"""Connections that are lost without a word, or lead to a standby by now, and answers that are lost on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import httpx2
import pytest
from sqlalchemy import text
from tests.postgres.wire import Wire, wire_to

from chassis.database import Database, DatabaseUnavailableError, open_database
from chassis.migrations import upgrade
from chassis.settings import ServiceSettings
from chassis.testing import bearer, serving, settings_for
from devstack.databases import CONNECT_TIMEOUT
from devstack.polling import within
from devstack.postgres import PostgresServer
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

PATIENCE = 90.0
CONNECTIONS = 4


@pytest.fixture
async def url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        yield url


@pytest.fixture
async def wire(url: str, postgres_server: PostgresServer) -> AsyncIterator[Wire]:
    async with wire_to(url, postgres_server.port) as wire:
        yield wire


@pytest.fixture
async def database(wire: Wire) -> AsyncIterator[Database]:
    connections = {"database_pool_size": CONNECTIONS, "database_pool_overflow": 0, "database_connect_timeout": 1}
    # Closing waits as long as a statement may take, unless it has a limit of its own.
    settings = settings_for(ServiceSettings, wire.url, database_statement_timeout=600, **connections)
    database = open_database(settings, application_name="test")
    async with AsyncExitStack() as sessions:  # all at once, so each on a connection of its own
        for _ in range(CONNECTIONS):
            await (await (await sessions.enter_async_context(database.session())).connection()).execute(text("SELECT"))
    yield database
    await database.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_when_a_server_is_gone_without_a_word_one_connection_is_asked_and_none_of_the_others(
    wire: Wire, database: Database
) -> None:
    async def works() -> bool:
        try:
            async with database.session() as session:
                return bool(await (await session.connection()).scalar(text("SELECT 1")))
        except DatabaseUnavailableError:
            return False

    wire.go_dead()
    for _ in range(2 * CONNECTIONS):
        assert await within(PATIENCE, works, 0.1)
    assert wire.asked_in_vain == 1


async def test_a_service_ends_without_waiting_for_a_server_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, wire: Wire, database: Database
) -> None:
    monkeypatch.setattr("chassis.database._CLOSE_TIMEOUT", 0.5)
    wire.go_dead()
    async with asyncio.timeout(PATIENCE):
        await database.close()


async def test_a_server_that_takes_no_writes_is_left_for_the_one_that_does(url: str) -> None:
    name = url.rsplit("/", 1)[1]
    await execute(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    settings = settings_for(ServiceSettings, url, database_pool_size=1, database_pool_overflow=0)
    database = open_database(settings, application_name="test")

    async def write() -> None:
        async with database.session() as session:
            await (await session.connection()).execute(text("CREATE TABLE written (id int)"))
            await session.commit()

    with pytest.raises(DatabaseUnavailableError):
        await write()
    standby = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
    await standby.execute("SET default_transaction_read_only = off")
    await standby.execute(f'ALTER DATABASE "{name}" RESET ALL')
    await standby.close()
    await write()
    await database.close()


async def test_a_commit_whose_answer_is_lost_is_an_outage_and_its_key_tells_that_it_took_place(
    url: str, wire: Wire
) -> None:
    alone = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1, "database_statement_timeout": PATIENCE}
    async with serving(create_app(settings_for(TaskApiSettings, wire.url, **alone))) as client:

        async def make(**key: str) -> httpx2.Response:
            return await client.post("/api/v1/tasks", json={"title": "x"}, headers=bearer("alice") | key)

        async def is_made(**key: str) -> bool:
            return (await make(**key)).status_code == 201

        key = {"Idempotency-Key": "lost-answer"}
        wire.lose_the_answer_to_the_commit_of(b"lost-answer")
        lost = await make(**key)
        assert (lost.status_code, lost.json()["code"]) == (503, "database_unavailable")
        assert await within(PATIENCE, lambda: is_made(**key), 0.1)
        assert wire.answers_lost == 1
        assert len((await client.get("/api/v1/tasks", headers=bearer("alice"))).json()["items"]) == 1
