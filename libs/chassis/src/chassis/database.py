"""PostgreSQL through SQLAlchemy and asyncpg: pool, sessions, and what an outage looks like from above.

Whoever uses a session sees one error for every kind of outage, `DatabaseUnavailableError`, which callers of
the API get as 503 with `Retry-After`.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import asyncpg
from fastapi import Depends, Request
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database_connection import connect_arguments, driver_url
from chassis.database_failover import ask_before_use, connections_of, leave_read_only_servers
from chassis.database_pool import PoolGauges
from chassis.database_spans import trace_statements
from chassis.errors import UnavailableError
from chassis.logging import get_logger
from chassis.resilience import CallPolicy, CircuitOpenError, Judgement, ResilientCall
from chassis.settings import ServiceSettings
from chassis.tracing import exports_spans

_UNAVAILABLE_SQLSTATES: Final = (
    "08",  # connection exception
    "53",  # insufficient resources, too many connections among them
    "57",  # operator intervention: shutdown, starting up, statement cancelled
    "25P03",  # our transaction was ended, as this process kept it waiting for too long
    "25P04",  # or as it took too long as a whole
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

_CLOSE_TIMEOUT: Final = 5.0

_logger = get_logger(__name__)


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer, not in time, or has no connection left."""

    code = "database_unavailable"


class Database:
    """The connection pool of one service."""

    def __init__(self, engine: AsyncEngine, *, checkout_timeout: float, max_connections: int) -> None:
        self.engine = engine
        self._connections = connections_of(engine.sync_engine)
        self._pool = PoolGauges(engine.pool, max_connections=max_connections)
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
                trips of a transaction around it, unless there is a pooler. Outside of a transaction it has no limits of
                the server's; a statement that takes too long is cancelled from here.

        Raises:
            DatabaseUnavailableError: At entry or at any statement inside, when PostgreSQL cannot be used.
        """
        try:
            async with (self._sessions if transaction else self._at_once)() as session:
                with self._pool.waiting():
                    await self._checkout(session.connection)
                yield session
        except CircuitOpenError as error:
            raise DatabaseUnavailableError("The database is not reachable.", retry_after=error.retry_after) from error
        except Exception as error:
            if isinstance(error, ssl.SSLError):
                _logger.error("the database is not trusted", reason=str(error))  # noqa: TRY400 (the reason says it all)
            if is_unavailable(error):
                raise DatabaseUnavailableError("The database did not answer in time.") from error
            raise

    async def close(self) -> None:
        """Close all connections; a server that does not answer is not waited for."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.engine.dispose()
        except TimeoutError:
            _logger.warning("the database does not answer; its connections are cut")
            for connection in tuple(self._connections):
                connection.terminate()
            await asyncio.sleep(0)  # they are cut when the loop turns


def open_database(settings: ServiceSettings, *, application_name: str) -> Database:
    """Make the pool; connects lazily, so a service starts while its database is down."""
    url = str(settings.database_url)
    limits = {
        "statement_timeout": settings.database_statement_timeout,
        "lock_timeout": settings.database_lock_timeout,
        "idle_in_transaction_session_timeout": settings.database_idle_timeout,
        "transaction_timeout": settings.database_transaction_timeout,
    }
    pooled = settings.database_pooler == "transaction"
    arguments = connect_arguments(
        url,
        timeout=settings.database_connect_timeout,
        limits=limits,
        pooled=pooled,
        application_name=application_name,
    )
    engine = create_async_engine(
        driver_url(url),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_overflow,
        pool_timeout=settings.database_pool_timeout,
        # Of sessions without a transaction. A pooler needs one, as it may send the two halves of a statement to two
        # servers unless they are in a transaction.
        isolation_level="READ COMMITTED" if pooled else "AUTOCOMMIT",
        pool_recycle=1800,
        hide_parameters=True,
        connect_args={**arguments, "command_timeout": settings.database_statement_timeout + 1},
    )
    ask_before_use(engine.sync_engine, patience=settings.database_connect_timeout)
    leave_read_only_servers(engine.sync_engine)
    checkout_timeout = settings.database_pool_timeout + settings.database_connect_timeout
    if exports_spans():
        trace_statements(engine.sync_engine)
    most = settings.database_pool_size + settings.database_pool_overflow
    return Database(engine, checkout_timeout=checkout_timeout, max_connections=most)


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
