"""pytest plugin (`-p devstack.testing`): real servers for tests, started when the first test asks for them.

Nothing of devstack is imported before a fixture runs, so that coverage sees all of it.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from devstack.breaker_clock import BreakerClock
    from devstack.pgbouncer import ThrowawayPgBouncer
    from devstack.postgres import PostgresServer
    from devstack.stack_under_test import StackUnderTest
    from devstack.throwaway import DatabaseFactory


@pytest.fixture
def breaker_clock(monkeypatch: pytest.MonkeyPatch) -> "BreakerClock":
    """The time of every circuit breaker in this process, which passes when the test says so."""
    from devstack.breaker_clock import BreakerClock  # noqa: PLC0415

    return BreakerClock(monkeypatch)


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[PostgresServer]":
    """A real PostgreSQL for this session, in a temporary directory, on a free port."""
    from devstack.throwaway import ThrowawayPostgres  # noqa: PLC0415

    with ThrowawayPostgres() as postgres:
        yield postgres.server


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: "PostgresServer") -> "Iterator[ThrowawayPgBouncer]":
    """A PgBouncer in transaction mode before it; without one the test is skipped, and says how to get it."""
    from devstack.failures import ProvisionError  # noqa: PLC0415
    from devstack.pgbouncer import ThrowawayPgBouncer, provide  # noqa: PLC0415

    try:
        provide()
    except ProvisionError as error:
        pytest.skip(f"NOT TESTED through a pooler: {error}")
    with ThrowawayPgBouncer(postgres_server) as running:
        yield running


@pytest.fixture(scope="session")
def databases(postgres_server: "PostgresServer", request: pytest.FixtureRequest) -> "DatabaseFactory":
    """Makes fresh databases on the session's PostgreSQL: `async with databases.fresh(name, migrate) as dsn`.

    With `TASKWIRE_TEST_POOLER=1` every service under test reaches them through PgBouncer (`settings_for`).
    """
    from devstack.throwaway import DatabaseFactory  # noqa: PLC0415

    if os.environ.get("TASKWIRE_TEST_POOLER") == "1":
        pooler = request.getfixturevalue("pgbouncer")
        os.environ["TASKWIRE_TEST_POOLED_PORTS"] = f"{postgres_server.port}:{pooler.port}"
    return DatabaseFactory(postgres_server)


@pytest.fixture(scope="session")
def stack() -> "Iterator[StackUnderTest]":
    """The whole real stack, in a temporary home, beside whatever runs on this machine."""
    from devstack.stack_under_test import StackUnderTest  # noqa: PLC0415

    with StackUnderTest() as running:
        yield running
