"""pytest plugin (`-p devstack.testing`): real servers for tests, started when the first test asks for them.

Nothing of devstack is imported before a fixture runs, so that coverage sees all of it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from devstack.postgres import PostgresServer
    from devstack.stack_under_test import StackUnderTest
    from devstack.throwaway import DatabaseFactory


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[PostgresServer]":
    """A real PostgreSQL for this session, in a temporary directory, on a free port."""
    from devstack.throwaway import ThrowawayPostgres  # noqa: PLC0415

    with ThrowawayPostgres() as postgres:
        yield postgres.server


@pytest.fixture(scope="session")
def databases(postgres_server: "PostgresServer") -> "DatabaseFactory":
    """Makes fresh databases on the session's PostgreSQL: `async with databases.fresh(name, migrate) as dsn`."""
    from devstack.throwaway import DatabaseFactory  # noqa: PLC0415

    return DatabaseFactory(postgres_server)


@pytest.fixture(scope="session")
def stack() -> "Iterator[StackUnderTest]":
    """The whole real stack, in a temporary home, beside whatever runs on this machine."""
    from devstack.stack_under_test import StackUnderTest  # noqa: PLC0415

    with StackUnderTest() as running:
        yield running
