"""A database that takes no connections for a while, beside others of the same server that do."""

from typing import Final
from urllib.parse import urlsplit

import asyncpg

from devstack.databases import quoted

_TIMEOUT: Final = 10.0
_ELSEWHERE: Final = "/postgres"
_END_SESSIONS: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


async def shut(url: str) -> None:
    """End every connection to a database, and let nobody in; for the role that owns it."""
    await _allow_connections(url, yes=False)


async def reopen(url: str) -> None:
    """Let everybody in again."""
    await _allow_connections(url, yes=True)


async def _allow_connections(url: str, *, yes: bool) -> None:
    parts = urlsplit(url)
    database = parts.path.removeprefix("/")
    connection = await asyncpg.connect(parts._replace(path=_ELSEWHERE).geturl(), timeout=_TIMEOUT)
    try:
        await connection.execute(f"ALTER DATABASE {quoted(database)} ALLOW_CONNECTIONS {yes}", timeout=_TIMEOUT)
        if not yes:
            await connection.execute(_END_SESSIONS, database, timeout=_TIMEOUT)
    finally:
        await connection.close(timeout=_TIMEOUT)
