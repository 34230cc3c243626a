"""Connections to a database that is migrated, beside those of the services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from devstack.databases import CONNECT_TIMEOUT


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect, past any pooler, until the block ends."""
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
    try:
        yield connection
    finally:
        await connection.close()


async def revision(connection: asyncpg.Connection) -> str:
    """Give the revision that the schema is at."""
    return str(await connection.fetchval("SELECT version_num FROM alembic_version"))
