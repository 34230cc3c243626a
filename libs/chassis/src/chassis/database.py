"""PostgreSQL through SQLAlchemy and asyncpg: pool, sessions, and what an outage looks like from above.

Whoever uses a session sees one error for every kind of outage, `DatabaseUnavailableError`, which callers of
the API get as 503 with `Retry-After`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import asyncpg
from fastapi import Depends, Request
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import UnavailableError
from chassis.resilience import CallPolicy, CircuitOpenError, Judgement, ResilientCall
from chassis.settings import ServiceSettings

_UNAVAILABLE_SQLSTATES: Final = (
    "08",  # connection exception
    "53",  # insufficient resources, too many connections among them
    "57",  # operator intervention: shutdown, starting up, statement cancelled
    "25P03",  # our transaction was ended, as this process kept it waiting for too long
    "55P03",  # lock not available in time
    "40",  # rolled back for a serialization failure or deadlock: the same request may work
)
_DATA_SQLSTATES: Final = (
    "22",  # data exception
    "23",  # integrity constraint violation
    "44",  # WITH CHECK OPTION violation
    "54",  # program limit exceeded: a value too large for its index
)
_SCHEMA_SQLSTATES: Final = (
    "28",  # invalid authorization
    "3D",  # no such database
    "3F",  # no such schema
    "42",  # no such table, column or function, or no right to it
)


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer, not in time, or has no connection left."""

    code = "database_unavailable"


class Database:
    """The connection pool of one service."""

    def __init__(self, engine: AsyncEngine, *, checkout_timeout: float) -> None:
        """Take a pool whose connections commit each statement, unless a session says otherwise."""
        self.engine = engine
        # On the connections of the same pool; which of the two is no round trip.
        in_transaction = engine.execution_options(isolation_level="READ COMMITTED")
        self._sessions = async_sessionmaker(in_transaction, class_=AsyncSession, expire_on_commit=False)
        self._at_once = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
        policy = CallPolicy("database", timeout=checkout_timeout, failure_threshold=5, recovery_timeout=1.0)
        self._checkout = ResilientCall(policy, judge=_what_it_says)

    @asynccontextmanager
    async def session(self, *, transaction: bool = True) -> AsyncIterator[AsyncSession]:
        """Open a session with a live connection; rolls back what was not committed.

        Args:
            transaction: False: each statement stands for itself, and a single one that reads is spared the two round
                trips of a transaction around it.

        Raises:
            DatabaseUnavailableError: At entry or at any statement inside, when PostgreSQL cannot be used.
        """
        try:
            async with (self._sessions if transaction else self._at_once)() as session:
                await self._checkout(session.connection)
                yield session
        except CircuitOpenError as error:
            raise DatabaseUnavailableError("The database is not reachable.", retry_after=error.retry_after) from error
        except Exception as error:
            if is_unavailable(error):
                raise DatabaseUnavailableError("The database did not answer in time.") from error
            raise

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def open_database(settings: ServiceSettings, *, application_name: str) -> Database:
    """Make the pool; connects lazily, so a service starts while its database is down."""
    milliseconds = {
        "statement_timeout": settings.database_statement_timeout,
        "lock_timeout": settings.database_lock_timeout,
        "idle_in_transaction_session_timeout": 60.0,
    }
    engine = create_async_engine(
        make_url(str(settings.database_url)).set(drivername="postgresql+asyncpg"),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_overflow,
        pool_timeout=settings.database_pool_timeout,
        pool_pre_ping=True,
        # So that the ping is one round trip: it would make a transaction of its own around it.
        isolation_level="AUTOCOMMIT",
        pool_recycle=1800,
        hide_parameters=True,
        connect_args={
            "timeout": settings.database_connect_timeout,
            "command_timeout": settings.database_statement_timeout + 1,
            "server_settings": {
                "application_name": application_name,
                **{name: str(round(seconds * 1000)) for name, seconds in milliseconds.items()},
            },
        },
    )
    checkout_timeout = settings.database_pool_timeout + settings.database_connect_timeout
    return Database(engine, checkout_timeout=checkout_timeout)


def _what_it_says(error: Exception) -> Judgement:
    """An exhausted pool says that we are busy, and nothing about PostgreSQL: no reason to refuse all, or none."""
    return Judgement.UNKNOWN if isinstance(error, PoolTimeoutError) else Judgement.UNWELL


def is_unavailable(error: BaseException) -> bool:
    """Tell an outage, which passes, from a mistake, which does not."""
    if isinstance(error, PoolTimeoutError | TimeoutError | OSError | asyncpg.InterfaceError):
        return True
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_UNAVAILABLE_SQLSTATES)
    if isinstance(error, DBAPIError):
        sqlstate = getattr(error.orig, "sqlstate", None) or ""
        cause = error.orig.__cause__ if error.orig is not None else None
        return (
            error.connection_invalidated
            or sqlstate.startswith(_UNAVAILABLE_SQLSTATES)
            or (cause is not None and is_unavailable(cause))
        )
    return False


def blames_the_data(error: BaseException) -> bool:
    """Tell whether the database refused what it was given, and would refuse the same again."""
    return (_sqlstate(error) or "").startswith(_DATA_SQLSTATES)


def blames_the_schema(error: BaseException) -> bool:
    """Tell whether the statement does not fit the database, whatever its data: a migration or a grant is missing."""
    return (_sqlstate(error) or "").startswith(_SCHEMA_SQLSTATES)


def _sqlstate(error: BaseException) -> str | None:
    if isinstance(error, DBAPIError):
        error = error.orig or error
    sqlstate: str | None = getattr(error, "sqlstate", None)
    return sqlstate


async def get_db(request: Request) -> AsyncIterator[AsyncSession]:
    """Give a route its session. The service commits; what it did not commit is rolled back."""
    database: Database = request.app.state.database
    async with database.session() as session:
        yield session


DbSession = Annotated[AsyncSession, Depends(get_db, scope="function")]
"""A session that is closed before the response leaves, so a slow client holds no connection."""


async def applied_revision(database: Database) -> str | None:
    """Give the Alembic revision the database is at, or None when it has no schema yet.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be asked.
    """
    async with database.session() as session:
        connection = await session.connection()
        if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision
