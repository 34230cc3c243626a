"""PgBouncer, which tests put between a service and PostgreSQL: Debian's package, unpacked into the cache.

No root is needed: apt fetches with package lists of its own, and what the package needs lies beside it.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from devstack.failures import ProvisionError
from devstack.filelock import exclusive
from devstack.layout import HOST, Layout
from devstack.ports import free_port
from devstack.postgres import SUPERUSER, PostgresServer
from devstack.privileges import unprivileged
from devstack.process import Command, log_tail, popen

_PACKAGES: Final = ("pgbouncer", "libevent-2.1-7", "libc-ares2")
_FETCH_TIMEOUT: Final = 120.0
_START_DEADLINE: Final = 30.0
_STOP_DEADLINE: Final = 10.0
_POLL: Final = 0.05
_ATTEMPTS: Final = 3

_CONFIGURATION: Final = """
[databases]
* = host={host} port={postgres} auth_user={superuser}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
server_round_robin = 1
query_wait_timeout = {query_wait_timeout}
"""
"""As its package has it, but for the pool: each transaction gets another connection than the one before had."""


@dataclass(frozen=True)
class PgBouncerProgram:
    """Where the program is.

    Attributes:
        path: The program.
        libraries: What it needs and the system may not have; None when it was installed as a package.
    """

    path: Path
    libraries: Path | None

    def version(self) -> str:
        """What it says about itself, e.g. `PgBouncer 1.18.0`.

        Raises:
            ProvisionError: It does not run.
        """
        done = subprocess.run(  # noqa: S603
            [str(self.path), "--version"],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise _unavailable((done.stderr or done.stdout).strip().splitlines()[-1])
        return done.stdout.splitlines()[0]

    def environment(self) -> dict[str, str]:
        """Its whole environment."""
        found = {"PATH": "/usr/bin:/bin"}
        if self.libraries is not None:
            found["LD_LIBRARY_PATH"] = str(self.libraries)
        return found


def provide(cache: Path | None = None) -> PgBouncerProgram:
    """Find PgBouncer, or unpack it into the cache.

    Raises:
        ProvisionError: It is not installed, and apt cannot get it.
    """
    if installed := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return PgBouncerProgram(Path(installed), None)
    place = (cache or Layout.from_environment(dict(os.environ)).cache) / "pgbouncer"
    with exclusive(place / "lock"):
        if not (place / "root").exists():
            _unpack(place)
    library = next((place / "root/usr/lib").glob("*-linux-gnu*"))
    program = PgBouncerProgram(place / "root/usr/sbin/pgbouncer", library)
    program.version()
    return program


def _unpack(place: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise _unavailable("this is no Debian or Ubuntu, where apt could get it")
    with tempfile.TemporaryDirectory(dir=place) as name:
        work = Path(name)
        (work / "lists/partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}", "-o", "APT::Sandbox::User="]
        _run(["apt-get", *own, "-qq", "update"], work)
        _run(["apt-get", *own, "-qq", "download", *_PACKAGES], work)
        for package in work.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(package), str(work / "root")], work)
        (work / "root").rename(place / "root")


def _run(command: list[str], directory: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=directory, capture_output=True, text=True, timeout=_FETCH_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _unavailable(f"{command[0]} took longer than {_FETCH_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise _unavailable((done.stderr.strip() or "apt failed").splitlines()[-1])


def _unavailable(why: str) -> ProvisionError:
    return ProvisionError("PgBouncer is not to be had", why, "Install it: apt-get install pgbouncer")


class ThrowawayPgBouncer:
    """A PgBouncer in transaction mode before a server, on a free port, that goes away with this process.

    Whoever may log in at the server may log in here, to any of its databases, with the same password.
    """

    def __init__(self, server: PostgresServer, *, pool_size: int = 4, query_wait_timeout: int = 10) -> None:
        """Prepare it.

        Args:
            server: Behind it.
            pool_size: Connections to the server for each database and role.
            query_wait_timeout: Seconds that a transaction waits for one of them.
        """
        self._server, self._pool_size, self._wait = server, pool_size, query_wait_timeout
        self._directory = Path(tempfile.mkdtemp(prefix="taskwire-pgbouncer-"))
        self._log = self._directory / "pgbouncer.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            ProvisionError: It is not to be had, or did not come up.
        """
        program = provide()
        for _ in range(_ATTEMPTS):
            self.port = free_port()
            self._process = popen(self._command(program), self._log)
            if self._comes_up():
                return self
            self._stop()
        said = log_tail(self._log, 1)
        shutil.rmtree(self._directory, ignore_errors=True)
        raise ProvisionError("PgBouncer did not start", said[0] if said else "it said nothing", "Free some memory")

    def __exit__(self, *_: object) -> None:
        """Stop it at once."""
        self._stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def through(self, dsn: str) -> str:
        """Give a connection string of the server's with this address in place of its own."""
        return dsn.replace(f"@{HOST}:{self._server.port}/", f"@{HOST}:{self.port}/")

    def _command(self, program: PgBouncerProgram) -> Command:
        users, configuration = self._directory / "users", self._directory / "pgbouncer.ini"
        users.touch(mode=0o600)
        users.write_text(f'"{SUPERUSER}" "{self._server.password}"\n')
        configuration.write_text(
            _CONFIGURATION.format(
                host=HOST,
                port=self.port,
                postgres=self._server.port,
                superuser=SUPERUSER,
                users=users,
                pool_size=self._pool_size,
                query_wait_timeout=self._wait,
            )
        )
        identity = unprivileged(configuration, program.path)
        if identity is not None:
            for path in (self._directory, users, configuration):
                identity.owns(path)
        return Command([str(program.path), str(configuration)], program.environment(), Path("/"), identity)

    def _comes_up(self) -> bool:
        process, deadline = self._process, time.monotonic() + _START_DEADLINE
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection((HOST, self.port), _POLL):
                return True
            time.sleep(_POLL)
        return False

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()  # it waits for nobody
        try:
            self._process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
