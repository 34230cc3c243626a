"""Backups that are known to be good: taken, restored, and compared with what was there when they were taken."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypedDict
from urllib.parse import unquote, urlsplit

import asyncpg

from devstack.databases import CONNECT_TIMEOUT, quoted
from devstack.failures import ProvisionError
from devstack.postgres import binaries

MANIFEST: Final = "manifest.json"
CHAINED: Final = "audit-worker"
"""Whose database holds the chain."""

_PROGRAM_TIMEOUT: Final = 3600.0
_REVISION: Final = "SELECT version_num FROM alembic_version"
_ANEW: Final = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


class DatabaseBackup(TypedDict):
    """What is known of one database in a backup."""

    file: str
    sha256: str
    revision: str
    rows: dict[str, int]


class Manifest(TypedDict):
    """What is in a backup; the databases are each of one moment, but not all of the same."""

    taken_at: str
    databases: dict[str, DatabaseBackup]


async def back_up(databases: Mapping[str, str], directory: Path) -> Manifest:
    """Write a dump of each database and what it must have after it was restored.

    Args:
        databases: Connection string by name.
        directory: A new one.

    Raises:
        ProvisionError: The directory is there, or pg_dump failed.
    """
    try:
        await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True)
    except FileExistsError as error:
        raise ProvisionError("nothing was backed up", f"{directory} is there already", "Name another one") from error
    found: dict[str, DatabaseBackup] = {}
    for name, dsn in databases.items():
        file = directory / f"{name}.dump"
        async with _connection(dsn) as connection, connection.transaction(isolation="repeatable_read"):
            # The dump and the counts see the same moment, however much is written meanwhile.
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            await _run("pg_dump", dsn, "--format=custom", f"--snapshot={snapshot}", "--no-owner", f"--file={file}")
            rows, revision = (
                await _rows(connection),
                await connection.fetchval("SELECT version_num FROM alembic_version"),
            )
        file.chmod(0o600)
        found[name] = DatabaseBackup(file=file.name, sha256=_digest(file), revision=revision, rows=rows)
    manifest = Manifest(taken_at=datetime.now(UTC).isoformat(timespec="seconds"), databases=found)
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Read what is in a backup, and look whether its files are as they were.

    Raises:
        ProvisionError: It is none, or not whole.
    """
    try:
        manifest: Manifest = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ProvisionError(
            "nothing was restored", f"{directory} holds no backup", "Name one: make restore FROM=directory"
        ) from error
    for name, backup in manifest["databases"].items():
        file = directory / backup["file"]
        if not file.exists() or _digest(file) != backup["sha256"]:
            raise ProvisionError("nothing was restored", f"the dump of {name} is not what was written", "Take another")
    return manifest


async def restore(databases: Mapping[str, str], directory: Path) -> None:
    """Put every database back to what the backup has, in one transaction each; what is there now is gone.

    Raises:
        ProvisionError: It is not whole, a database is missing or in use, or PostgreSQL refused.
    """
    manifest = read_manifest(directory)
    for name in manifest["databases"]:
        if name not in databases:
            raise ProvisionError("nothing was restored", f"there is no database of {name}", "Start the whole stack")
        await _nobody_else(name, databases[name])
    for name, backup in manifest["databases"].items():
        script = directory / f"{name}.sql"
        try:
            await _run("pg_restore", None, "--no-owner", f"--file={script}", str(directory / backup["file"]))
            await _run(
                "psql",
                databases[name],
                *("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"),
                *("--command", _ANEW, "--file", str(script)),
            )
        finally:
            script.unlink(missing_ok=True)


async def chain_faults(dsn: str) -> list[str]:
    """Ask the verifier of audit-worker; of its settings it needs no more than the database."""
    settings = {
        "TASKWIRE_ENVIRONMENT": "development",
        "TASKWIRE_PORT": "1",
        "TASKWIRE_DATABASE_URL": dsn,
        "TASKWIRE_AUTH_ISSUER": "nobody",
        "TASKWIRE_AUTH_AUDIENCE": "nobody",
        "TASKWIRE_AUTH_HS256_SECRET": "0" * 32,
        "DAPR_API_TOKEN": "0" * 16,
        "APP_API_TOKEN": "0" * 16,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "audit_worker", "verify"),
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode().splitlines() if process.returncode else []


async def differences(
    databases: Mapping[str, str], directory: Path, verify: Callable[[str], Awaitable[list[str]]] = chain_faults
) -> list[str]:
    """Say where the databases are not what the backup was taken of: revisions, rows, and the chain of the trail.

    Args:
        databases: Connection string by name.
        directory: Of the backup.
        verify: Says what is wrong with the chain in a database.
    """
    found = []
    for name, backup in read_manifest(directory)["databases"].items():
        async with _connection(databases[name]) as connection:
            revision = await connection.fetchval(_REVISION)
            rows = await _rows(connection)
        if revision != backup["revision"]:
            found.append(f"{name}: revision {revision}, not {backup['revision']}")
        for table in sorted({*rows, *backup["rows"]}):
            is_now, was = rows.get(table), backup["rows"].get(table)
            if is_now != was:
                found.append(f"{name}: {table} has {is_now} rows, not {was}")
        if name == CHAINED and (said := await verify(databases[name])):
            found += [f"{name}: {line}" for line in said]
    return found


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT, ssl=False)
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


async def _rows(connection: asyncpg.Connection) -> dict[str, int]:
    tables = await connection.fetch(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"
    )
    names = [row["name"] for row in tables]
    return {name: await connection.fetchval(f"SELECT count(*) FROM {quoted(name)}") for name in names}  # noqa: S608


async def _nobody_else(name: str, dsn: str) -> None:
    async with _connection(dsn) as connection:
        others = await connection.fetch(
            "SELECT DISTINCT application_name AS name FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    if others:
        who = ", ".join(sorted(row["name"] or "somebody" for row in others))
        raise ProvisionError(
            "nothing was restored",
            f"the database of {name} is in use by {who}",
            "Stop who uses it, and restore again: till then the services stay down",
        )


async def _run(program: str, dsn: str | None, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; the password is in its environment, which nobody else can read."""
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    if dsn is not None:
        url = urlsplit(dsn)
        environment |= {
            "PGHOST": url.hostname or "",
            "PGPORT": str(url.port),
            "PGUSER": unquote(url.username or ""),
            "PGPASSWORD": unquote(url.password or ""),
            "PGDATABASE": url.path.lstrip("/"),
        }
    process = await asyncio.create_subprocess_exec(
        str(binaries() / program),
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_PROGRAM_TIMEOUT):
        said, _ = await process.communicate()
    if process.returncode:
        lines = said.decode().strip().splitlines() or ["it said nothing"]
        raise ProvisionError(f"{program} failed", lines[0], "See docs/migrations.md, Backups")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
