"""Outages of a real PostgreSQL, and what its breaker does, as callers and Prometheus see it.

The server is one of its own, because it is frozen and stopped here.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import asyncpg
import httpx2
import psutil
import pytest
from fastapi import APIRouter
from sqlalchemy import text

from chassis.database import Database, DatabaseUnavailableError, DbSession, open_database
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import scrape, serving, settings_for
from devstack.polling import until, within
from devstack.process import popen
from devstack.throwaway import DatabaseFactory, ThrowawayPostgres

PATIENCE = 90.0
QUICK = {"database_pool_timeout": 0.5, "database_connect_timeout": 0.5, "database_statement_timeout": 1.0}
Outage = Callable[[ThrowawayPostgres], AbstractContextManager[None]]
router = APIRouter()


@router.get("/one")
async def one(session: DbSession) -> int:
    return int(await (await session.connection()).scalar(text("SELECT 1")) or 0)


@pytest.fixture(scope="module")
def postgres() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as postgres:
        yield postgres


@contextmanager
def frozen(postgres: ThrowawayPostgres) -> Iterator[None]:
    """SIGSTOP: connections stay, new ones are taken by the kernel, and nobody answers."""
    postmaster = psutil.Process(postgres.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@contextmanager
def stopped(postgres: ThrowawayPostgres) -> Iterator[None]:
    """Shut down: connections are closed, new ones refused."""
    server = postgres._process
    assert server is not None
    server.send_signal(signal.SIGINT)
    server.wait(60)
    try:
        yield
    finally:
        postgres._process = popen(postgres.server.command(), postgres._log)


@pytest.fixture
async def client(postgres: ThrowawayPostgres) -> AsyncIterator[httpx2.AsyncClient]:
    settings = settings_for(ServiceSettings, postgres.server.dsn(), **QUICK)
    app = create_service(settings, package="chassis", title="t", description="d", routers=[router])
    async with serving(app) as client:
        yield client


async def state(client: httpx2.AsyncClient) -> float:
    return await scrape(client, "taskwire_breaker_state", call="database")


async def calls(client: httpx2.AsyncClient, outcome: str) -> float:
    return await scrape(client, "taskwire_outbound_calls_total", call="database", outcome=outcome)


async def sees(client: httpx2.AsyncClient, wanted: float) -> bool:
    async def is_in() -> bool:
        return await state(client) == wanted

    return await within(PATIENCE, is_in, 0.01)


async def answers(client: httpx2.AsyncClient) -> bool:
    async def is_served() -> bool:
        return (await client.get("/api/v1/one")).status_code == 200

    return await within(PATIENCE, is_served, 0.1)


@pytest.mark.parametrize(("outage", "outcome"), [(frozen, "timeout"), (stopped, "error")])
async def test_the_breaker_opens_refuses_tries_and_closes(
    postgres: ThrowawayPostgres, client: httpx2.AsyncClient, outage: Outage, outcome: str
) -> None:
    assert await answers(client)
    assert await state(client) == 0
    before, refused = await calls(client, outcome), await calls(client, "refused")
    with outage(postgres):
        for _ in range(5):
            assert await state(client) == 0, "it opens after five failures, not before"
            response = await client.get("/api/v1/one")
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            assert int(response.headers["Retry-After"]) >= 1
        assert await calls(client, outcome) == before + 5, "one try for each request"
        assert await state(client) > 0

        async def is_refused() -> bool:
            """Open for a second at a time, so a slow machine may need several requests to meet it open."""
            tried = await calls(client, outcome)
            response = await client.get("/api/v1/one")
            assert (response.status_code, int(response.headers["Retry-After"])) >= (503, 1)
            return await calls(client, outcome) == tried and response.json()["detail"].endswith("not reachable.")

        assert await within(PATIENCE, is_refused, 0)
        assert await calls(client, "refused") > refused
        assert await sees(client, 1), "half open"
        assert (await client.get("/api/v1/one")).status_code == 503
        assert await state(client) > 0, "a trial that fails closes nothing"

    assert await answers(client)
    assert await state(client) == 0


async def test_many_at_once_find_a_frozen_server_and_only_one_of_them_tries_it_again(
    postgres: ThrowawayPostgres, client: httpx2.AsyncClient
) -> None:
    with frozen(postgres):
        await asyncio.gather(*(client.get("/api/v1/one") for _ in range(10)))
        assert await sees(client, 1)
        tried, refused = await calls(client, "timeout"), await calls(client, "refused")
        responses = await asyncio.gather(*(client.get("/api/v1/one") for _ in range(10)))
        assert {response.status_code for response in responses} == {503}
        assert await calls(client, "timeout") == tried + 1
        assert await calls(client, "refused") == refused + 9


async def test_a_server_without_a_connection_for_us_is_an_outage(databases: DatabaseFactory) -> None:
    async with databases.empty("chassis") as url:
        owner = await asyncpg.connect(url, ssl=False)
        name = await owner.fetchval("SELECT current_database()")
        await owner.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
        app = create_service(
            settings_for(ServiceSettings, url), package="chassis", title="t", description="d", routers=[router]
        )
        async with serving(app) as client:
            for _ in range(5):
                response = await client.get("/api/v1/one")
                assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            assert await state(client) > 0
            await owner.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
            assert await answers(client)
        await owner.close()


async def test_an_exhausted_pool_says_so_at_once_and_leaves_the_breaker_closed(postgres: ThrowawayPostgres) -> None:
    one_connection = {"database_pool_size": 1, "database_pool_overflow": 0}
    settings = settings_for(ServiceSettings, postgres.server.dsn(), **QUICK, **one_connection)
    app = create_service(settings, package="chassis", title="t", description="d", routers=[router])
    async with serving(app) as client:
        database: Database = app.state.database
        async with database.session():
            errors = await calls(client, "error")
            responses = await asyncio.gather(*(client.get("/api/v1/one") for _ in range(7)))
            assert {(response.status_code, response.headers["Retry-After"]) for response in responses} == {(503, "1")}
            assert await calls(client, "error") == errors + 7
            assert await state(client) == 0
        assert await answers(client)


async def test_a_server_that_freezes_under_a_statement_holds_its_caller_for_a_while_only(
    postgres: ThrowawayPostgres,
) -> None:
    database = open_database(settings_for(ServiceSettings, postgres.server.dsn(), **QUICK), application_name="test")

    patience = asyncio.timeout(PATIENCE)

    async def ask_a_frozen_server() -> None:
        async with database.session() as session:
            connection = await session.connection()
            with frozen(postgres):
                # The server's own statement timeout is frozen with it: the client's must do.
                async with patience:
                    await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailableError):
        await ask_a_frozen_server()
    assert not patience.expired()

    async def works() -> bool:
        try:
            async with database.session() as session:
                await (await session.connection()).execute(text("SELECT 1"))
                return True
        except DatabaseUnavailableError:
            return False

    async with asyncio.timeout(PATIENCE):
        await until(works, 0.1)
    await database.close()
