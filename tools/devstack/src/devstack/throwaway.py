"""Databases for tests: one real PostgreSQL per session, one fresh database per test."""

import asyncio
import inspect
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

import asyncpg

from devstack.databases import CONNECT_TIMEOUT, accepts_connections, literal, quoted
from devstack.failures import ProvisionError
from devstack.layout import HOST
from devstack.polling import within
from devstack.ports import bindable, free_base
from devstack.postgres import THROWAWAY, PostgresServer
from devstack.process import log_tail, popen, signal_group

Migrate = Callable[[str], Awaitable[None] | None]
"""Brings the database with the given connection string to its newest schema."""

_START_DEADLINE: Final = 30.0
_POLL: Final = 0.05
_STOP_DEADLINE: Final = 10.0
_ATTEMPTS: Final = 3


class ThrowawayPostgres:
    """A PostgreSQL server in a temporary directory that goes away with this process."""

    def __init__(self, settings: Mapping[str, str] = THROWAWAY, *, programs: Path | None = None) -> None:
        """Prepare it.

        Args:
            settings: Of the server; those for throwing away lose the last commits in a crash of PostgreSQL.
            programs: Where another PostgreSQL's are than the wheel's; by default what `TASKWIRE_TEST_POSTGRES` names.
        """
        self._settings = settings
        named = os.environ.get("TASKWIRE_TEST_POSTGRES")
        self._programs = programs or (Path(named) if named else None)
        self._directory = Path(tempfile.mkdtemp(prefix="taskwire-postgres-"))
        self._log = self._directory / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.server = self._server(free_base())

    def __enter__(self) -> Self:
        """Create the data directory and start the server.

        Raises:
            ProvisionError: It did not come up.
        """
        for _ in range(_ATTEMPTS):
            self.server.prepare()
            self._process = popen(self.server.command(), self._log)
            if (
                _in_thread(within(_START_DEADLINE, partial(accepts_connections, self.server), _POLL))
                and self._process.poll() is None
            ):
                return self
            port_was_lost = self._process.poll() is not None and not bindable(self.server.port)
            self._stop()
            if not port_was_lost:
                break
            self.server = self._server(free_base())
        tail = log_tail(self._log, 1)
        shutil.rmtree(self._directory, ignore_errors=True)
        raise ProvisionError(
            "PostgreSQL for the tests did not start",
            tail[0] if tail else "it said nothing",
            "Free some memory or disk",
        )

    def __exit__(self, *_: object) -> None:
        """Stop the server at once and delete its data."""
        self._stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def _server(self, port: int) -> PostgresServer:
        return PostgresServer(self._directory / "data", port, uuid.uuid4().hex, self._settings, self._programs)

    def _stop(self) -> None:
        if self._process is None:
            return
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients that tests forgot to close.
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


class DatabaseFactory:
    """Makes a database per test by copying a template that was migrated once."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._templates: dict[str, asyncio.Lock] = {}
        self._built: set[str] = set()
        self._password = uuid.uuid4().hex

    @asynccontextmanager
    async def fresh(self, template: str, migrate: Migrate) -> AsyncIterator[str]:
        """A database of its own for one test, dropped afterwards.

        Args:
            template: Name of the schema, for instance "task_api"; also the role that owns everything in it.
            migrate: Called once per session and template, in a thread of its own, with the connection string of
                the template; may be a coroutine function.

        Yields:
            Connection string (`postgresql://…`) of the new database, as the owning role.
        """
        await self._ensure_template(template, migrate)
        name = f"test_{template}_{uuid.uuid4().hex[:12]}"
        await self._execute(
            f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(_template(template))} OWNER {quoted(template)}"
        )
        try:
            yield self._dsn(template, name)
        finally:
            await self._execute(f"DROP DATABASE {quoted(name)} WITH (FORCE)")

    @asynccontextmanager
    async def empty(self, role: str) -> AsyncIterator[str]:
        """A database without any schema, owned by a role of this name: for tests of migrations themselves."""

        def nothing(_: str) -> None:
            return None

        async with self.fresh(f"{role}_empty", nothing) as dsn:
            yield dsn

    async def _ensure_template(self, template: str, migrate: Migrate) -> None:
        async with self._templates.setdefault(template, asyncio.Lock()):
            if template in self._built:
                return
            await self._execute(
                f"DROP DATABASE IF EXISTS {quoted(_template(template))}",
                f"DROP ROLE IF EXISTS {quoted(template)}",
                f"CREATE ROLE {quoted(template)} LOGIN PASSWORD {literal(self._password)}",
                f"CREATE DATABASE {quoted(_template(template))} OWNER {quoted(template)}",
            )
            await asyncio.to_thread(_call, migrate, self._dsn(template, _template(template)))
            self._built.add(template)

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._server.dsn(), timeout=CONNECT_TIMEOUT, ssl=False)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def _dsn(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{self._password}@{HOST}:{self._server.port}/{database}"


def _template(name: str) -> str:
    return f"template_{name}"


def _call(migrate: Migrate, dsn: str) -> None:
    result = migrate(dsn)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def _in_thread(condition: Awaitable[bool]) -> bool:
    """Await in a thread of its own: the caller's thread may belong to another event loop's owner."""

    async def wait() -> bool:
        return await condition

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()
