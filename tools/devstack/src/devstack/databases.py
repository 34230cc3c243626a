"""What lives inside PostgreSQL before the services come: a role and a database for each."""

from typing import Final

import asyncpg

from devstack.failures import ProvisionError
from devstack.postgres import PostgresServer

CONNECT_TIMEOUT: Final = 5.0
_NOT_READY: Final = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
)


async def accepts_connections(server: PostgresServer) -> bool:
    """Whether the server answers a query of the superuser right now.

    Raises:
        ProvisionError: It is up and refuses our password: the data and the secrets do not belong together.
    """
    try:
        connection = await asyncpg.connect(server.dsn(), timeout=CONNECT_TIMEOUT, ssl=False)
    except _NOT_READY:
        return False
    except asyncpg.InvalidPasswordError as error:
        raise ProvisionError(
            "PostgreSQL refuses the password of this stack",
            f"the data in {server.directory} were created with other secrets",
            "Restore credentials.json, or run make reset (deletes the data of this stack)",
        ) from error
    try:
        await connection.fetchval("SELECT 1", timeout=CONNECT_TIMEOUT)
    except (*_NOT_READY, asyncpg.PostgresError):
        return False
    else:
        return True
    finally:
        connection.terminate()


async def ensure_databases(server: PostgresServer, passwords: dict[str, str]) -> None:
    """Create a login role per name and a database of the same name that only it may enter."""
    connection = await asyncpg.connect(server.dsn(), timeout=CONNECT_TIMEOUT, ssl=False)
    try:
        roles = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        databases = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for name, password in passwords.items():
            verb = "ALTER" if name in roles else "CREATE"
            await connection.execute(f"{verb} ROLE {quoted(name)} LOGIN PASSWORD {literal(password)}")
            if name not in databases:
                await connection.execute(f"CREATE DATABASE {quoted(name)} OWNER {quoted(name)}")
            await connection.execute(f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC")
    finally:
        await connection.close()


def quoted(identifier: str) -> str:
    """An SQL identifier, quoted."""
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


def literal(text: str) -> str:
    """An SQL string literal, quoted (utility statements take no parameters)."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
