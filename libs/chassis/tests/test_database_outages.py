"""Outages of a real PostgreSQL, and what its breaker does, as callers and Prometheus see it.

The server is one of its own, because it is frozen and stopped here.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass

import asyncpg
import httpx2
import psutil
import pytest
from fastapi import APIRouter
from sqlalchemy import text

from chassis.database import Database, DatabaseUnavailableError, DbSession, open_database
from chassis.outages import CLOSED, OPEN, TIMEOUT, OutageOf
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import PATIENCE, serving, settings_for
from devstack.breaker_clock import BreakerClock
from devstack.polling import within
from devstack.process import popen
from devstack.throwaway import DatabaseFactory, ThrowawayPostgres

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


@dataclass
class Service:
    """A service on the server that is frozen and stopped here."""

    client: httpx2.AsyncClient
    database: Database
    outage: OutageOf

    async def is_served(self) -> bool:
        response = await self.client.get("/api/v1/one")
        if response.status_code == 200:
            return True
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert int(response.headers["Retry-After"]) >= 1
        return False


Serve = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def service(breaker_clock: BreakerClock) -> Serve:
    """Serves the one route, in no hurry but for what a test says."""

    @asynccontextmanager
    async def running(url: str, **settings: object) -> AsyncIterator[Service]:
        made = settings_for(ServiceSettings, url, **settings)
        app = create_service(made, package="chassis", title="t", description="d", routers=[router])
        async with serving(app) as client:
            database: Database = app.state.database
            yield Service(client, database, OutageOf(database._checkout._policy, breaker_clock))

    return running


async def is_there(postgres: ThrowawayPostgres) -> bool:
    async def connects() -> bool:
        try:
            connection = await asyncpg.connect(postgres.server.dsn(), ssl=False)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    return await within(PATIENCE, connects, 0.1)


@pytest.mark.parametrize(("outage", "outcome"), [(frozen, TIMEOUT), (stopped, "error")])
async def test_the_breaker_opens_refuses_tries_and_closes(
    postgres: ThrowawayPostgres, service: Serve, outage: Outage, outcome: str
) -> None:
    async with service(postgres.server.dsn()) as here:
        assert await here.is_served()
        with outage(postgres):
            await here.outage.opens_the_breaker(here.is_served, outcome)
            refusal = await here.client.get("/api/v1/one")
            assert refusal.json()["detail"] == "The database is not reachable."
            await here.outage.fails_a_trial(here.is_served, outcome)
        assert await is_there(postgres)
        await here.outage.closes_the_breaker(here.is_served)


async def test_many_at_once_find_a_frozen_server_and_only_one_of_them_tries_it_again(
    postgres: ThrowawayPostgres, service: Serve, breaker_clock: BreakerClock
) -> None:
    quick = {"database_pool_timeout": 0.5, "database_connect_timeout": 0.5}
    async with service(postgres.server.dsn(), **quick) as here:
        with frozen(postgres):
            await asyncio.gather(*(here.client.get("/api/v1/one") for _ in range(10)))
            assert here.outage.state == OPEN
            breaker_clock.passes(60)
            tried, refused = here.outage.calls(TIMEOUT), here.outage.calls("refused")
            assert await asyncio.gather(*(here.is_served() for _ in range(10))) == [False] * 10
            assert (here.outage.calls(TIMEOUT), here.outage.calls("refused")) == (tried + 1, refused + 9)


async def test_a_server_without_a_connection_for_us_is_an_outage(databases: DatabaseFactory, service: Serve) -> None:
    async with databases.empty("chassis") as url, service(url) as here:
        owner = await asyncpg.connect(url, ssl=False)
        name = await owner.fetchval("SELECT current_database()")
        await owner.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
        await here.outage.opens_the_breaker(here.is_served, "error")
        await owner.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
        await here.outage.closes_the_breaker(here.is_served)
        await owner.close()


async def test_an_exhausted_pool_says_so_at_once_and_leaves_the_breaker_closed(
    postgres: ThrowawayPostgres, service: Serve
) -> None:
    one_connection = {"database_pool_size": 1, "database_pool_overflow": 0, "database_pool_timeout": 0.1}
    async with service(postgres.server.dsn(), **one_connection) as here:
        async with here.database.session():
            errors = here.outage.calls("error")
            responses = await asyncio.gather(*(here.client.get("/api/v1/one") for _ in range(7)))
            assert {(response.status_code, response.headers["Retry-After"]) for response in responses} == {(503, "1")}
            assert here.outage.calls("error") == errors + 7
            assert here.outage.state == CLOSED
        assert await here.is_served()


async def test_a_server_that_freezes_under_a_statement_holds_its_caller_for_a_while_only(
    postgres: ThrowawayPostgres,
) -> None:
    settings = settings_for(ServiceSettings, postgres.server.dsn(), database_statement_timeout=0.5)
    database = open_database(settings, application_name="test")
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
        """The driver has a second and a half for a statement here, which a slow machine may need for one alone."""
        with suppress(DatabaseUnavailableError):
            async with database.session() as session:
                return bool(await (await session.connection()).scalar(text("SELECT 1")) == 1)
        return False

    assert await within(PATIENCE, works, 0.1)
    await database.close()
