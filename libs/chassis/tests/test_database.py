"""An outage of PostgreSQL, seen from above; all against the real server or a port where nothing listens."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from chassis.database import Database, DatabaseUnavailableError, applied_revision, open_database
from chassis.settings import ServiceSettings
from chassis.testing import PATIENCE, settings_for
from devstack.polling import within
from devstack.throwaway import DatabaseFactory

WITHOUT_A_POOLER = pytest.mark.skipif(
    os.environ.get("TASKWIRE_TEST_POOLER") == "1", reason="through a pooler each statement is in a transaction"
)


@pytest.fixture
async def url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.empty("chassis") as url:
        yield url


@asynccontextmanager
async def one_connection(url: str, **settings: object) -> AsyncIterator[Database]:
    """A pool of one, in no hurry but for what a test is about."""
    one = {"database_pool_size": 1, "database_pool_overflow": 0}
    database = open_database(settings_for(ServiceSettings, url, **one | settings), application_name="test")
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with one_connection(url) as database:
        yield database


async def run(database: Database, statement: str) -> object:
    async with database.session() as session:
        return await (await session.connection()).scalar(text(statement))


async def test_a_session_works_and_rolls_back_what_was_not_committed(database: Database) -> None:
    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(text("CREATE TABLE kept (id int)"))
        await session.commit()
    async with database.session() as session:
        await (await session.connection()).execute(text("INSERT INTO kept VALUES (1)"))
    assert await run(database, "SELECT count(*) FROM kept") == 0


async def sent_by(database: Database, *, transaction: bool) -> list[str]:
    """Note what goes over the wire for a session with one statement, on a connection that is there already."""
    sent: list[str] = []

    def note(query: LoggedQuery) -> None:
        sent.append(query.query)

    async with database.session() as session:
        raw = await (await session.connection()).get_raw_connection()
        driver = raw.driver_connection
        assert driver is not None
    driver.add_query_logger(note)
    async with database.session(transaction=transaction) as session:
        await (await session.connection()).exec_driver_sql("SELECT 1")
    driver.remove_query_logger(note)
    return [statement.split()[0].strip(";") for statement in sent]


@WITHOUT_A_POOLER
async def test_a_statement_that_stands_for_itself_has_no_transaction_around_it(database: Database) -> None:
    assert await sent_by(database, transaction=True) == ["SELECT", "BEGIN", "ROLLBACK"]
    assert await sent_by(database, transaction=False) == ["SELECT"], "the question whether the connection is alive"


@WITHOUT_A_POOLER
async def test_sessions_take_turns_with_and_without_a_transaction(database: Database) -> None:
    """Nothing of one kind is left on the connection for the other."""
    async with database.session(transaction=False) as session:
        await (await session.connection()).execute(text("CREATE TABLE kept (id int)"))
        await (await session.connection()).execute(text("INSERT INTO kept VALUES (1)"))
    async with database.session() as session:
        await (await session.connection()).execute(text("INSERT INTO kept VALUES (2)"))
        await (await session.connection()).execute(text("SET LOCAL statement_timeout = 7"))
    async with database.session(transaction=False) as session:
        connection = await session.connection()
        assert await connection.scalar(text("SELECT count(*) FROM kept")) == 1
        assert await connection.scalar(text("SHOW statement_timeout")) == "0"


async def test_a_server_that_is_not_there_is_unavailable_with_a_time_to_retry() -> None:
    database = open_database(settings_for(ServiceSettings), application_name="test")
    with pytest.raises(DatabaseUnavailableError) as outage:
        await run(database, "SELECT 1")
    assert int(outage.value.headers["Retry-After"]) >= 1


@pytest.mark.usefixtures("breaker_clock")
async def test_after_several_failures_nobody_waits_for_a_dead_server() -> None:
    database = open_database(settings_for(ServiceSettings), application_name="test")
    details = set()
    for _ in range(7):
        with pytest.raises(DatabaseUnavailableError) as outage:
            await run(database, "SELECT 1")
        details.add(outage.value.detail)
    assert "The database is not reachable." in details  # the breaker's own words: nothing was tried


async def test_an_exhausted_pool_is_unavailable_and_passes_with_the_load(url: str) -> None:
    async with one_connection(url, database_pool_timeout=0.1) as database:
        async with database.session():
            for _ in range(7):  # more than the breaker's threshold: being busy must not open it
                with pytest.raises(DatabaseUnavailableError):
                    await run(database, "SELECT 1")
        assert await run(database, "SELECT 1") == 1


async def test_a_slow_statement_is_cut_off(url: str) -> None:
    async with one_connection(url, database_statement_timeout=0.3) as database:
        with pytest.raises(DatabaseUnavailableError):
            await run(database, "SELECT pg_sleep(600)")


async def test_a_slow_statement_outside_of_a_transaction_is_cut_off_and_cancelled(database: Database, url: str) -> None:
    async with one_connection(url, database_statement_timeout=0.3) as impatient:
        with pytest.raises(DatabaseUnavailableError):
            async with impatient.session(transaction=False) as session:
                await (await session.connection()).execute(text("SELECT pg_sleep(600), 'cut off'"))
        others = "FROM pg_stat_activity WHERE query LIKE '%cut off%' AND pid <> pg_backend_pid() AND state = 'active'"

        async def is_over() -> bool:
            return await run(database, f"SELECT count(*) {others}") == 0

        assert await within(PATIENCE, is_over, 0.05), "it goes on for the 600 seconds that it would take"


LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")


async def test_every_transaction_has_its_limits_and_the_session_none_of_its_own(url: str) -> None:
    seconds = {"statement": 4, "lock": 3, "idle": 7, "transaction": 8}
    settings = settings_for(ServiceSettings, url, **{f"database_{name}_timeout": n for name, n in seconds.items()})
    database = open_database(settings, application_name="test")
    shown = text("SELECT " + ", ".join(f"current_setting('{name}')" for name in LIMITS))
    async with database.session() as session:
        for _ in range(2):
            assert (await (await session.connection()).execute(shown)).one() == ("4s", "3s", "7s", "8s")
            await session.commit()
        async with session.begin_nested():
            assert (await (await session.connection()).execute(shown)).one() == ("4s", "3s", "7s", "8s")
        await session.commit()
        of_session = text(f"SELECT reset_val FROM pg_settings WHERE name = '{LIMITS[0]}'")
        assert await (await session.connection()).scalar(of_session) == "0"
    await database.close()


@pytest.mark.parametrize(
    ("limit", "statements"),
    [
        ("idle", ("SELECT 1", None, "SELECT 1")),
        ("transaction", ("SELECT 1", *["SELECT pg_sleep(0.1)"] * 900)),
    ],
)
async def test_a_transaction_that_lasts_too_long_is_ended_and_is_an_outage(
    url: str, limit: str, statements: tuple[str | None, ...]
) -> None:
    async with one_connection(url, **{f"database_{limit}_timeout": 0.5}) as database:

        async def take_too_long() -> None:
            async with database.session() as session:
                connection = await session.connection()
                for statement in statements:
                    await (asyncio.sleep(2) if statement is None else connection.execute(text(statement)))

        with pytest.raises(DatabaseUnavailableError):
            await take_too_long()

        async def works_again() -> bool:
            """A slow machine may need more than the half second for one statement, too."""
            with suppress(DatabaseUnavailableError):
                return await run(database, "SELECT 1") == 1
            return False

        assert await within(PATIENCE, works_again, 0)


async def end_backend(url: str, pid: object) -> None:
    """Have the server end one of its connections, by way of one that no pooler gives the same backend."""
    connection = await asyncpg.connect(url, ssl=False)
    await connection.execute(f"SELECT pg_terminate_backend({pid})")
    await connection.close()


async def test_a_connection_the_server_closed_is_replaced(database: Database, url: str) -> None:
    await end_backend(url, await run(database, "SELECT pg_backend_pid()"))
    assert await run(database, "SELECT 1") == 1


async def test_a_connection_that_dies_under_a_statement_is_an_outage(database: Database, url: str) -> None:
    async def use_a_killed_connection() -> None:
        async with database.session() as session:
            connection = await session.connection()
            await end_backend(url, await connection.scalar(text("SELECT pg_backend_pid()")))
            await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailableError):
        await use_a_killed_connection()


async def test_a_mistake_of_ours_is_not_an_outage(database: Database) -> None:
    with pytest.raises(ProgrammingError):
        await run(database, "SELECT nonsense")


async def test_a_lock_that_is_not_to_be_had_is_an_outage(database: Database, url: str) -> None:
    async with one_connection(url, database_lock_timeout=0.1) as impatient, database.session() as session:
        await (await session.connection()).execute(text("SELECT pg_advisory_xact_lock(1)"))
        with pytest.raises(DatabaseUnavailableError):
            await run(impatient, "SELECT pg_advisory_xact_lock(1)")


async def test_a_database_without_a_schema_has_no_revision(database: Database) -> None:
    assert await applied_revision(database) is None


async def test_cancelling_a_request_gives_its_connection_back(database: Database, url: str) -> None:
    async with one_connection(url) as beside:
        task = asyncio.create_task(run(database, "SELECT pg_sleep(600), 'left'"))

        async def is_under_way() -> bool:
            sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%left%' AND wait_event = 'PgSleep'"
            return await run(beside, sleeping) == 1

        assert await within(PATIENCE, is_under_way, 0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await run(database, "SELECT 1") == 1
