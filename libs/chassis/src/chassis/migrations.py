"""Alembic for a service: where its revisions lie, how to apply them, and whether they were applied.

Every service owns one database and has its revisions in its own package, `<package>/migrations`.
"""

import asyncio
import time
from importlib.resources import files

from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

_LOCK_KEY = 0x7461736B  # "task": two replicas that migrate at once take turns
_LOCK_POLL = 0.2


def service_metadata() -> MetaData:
    """Make the metadata of a service's own tables, with the names PostgreSQL itself gives to constraints."""
    return MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )


def alembic_config(package: str, database_url: str = "") -> Config:
    """Make the configuration for the revisions of `package`, e.g. `task_api`."""
    config = Config()
    config.set_main_option("script_location", str(files(package) / "migrations").replace("%", "%%"))
    config.attributes["database_url"] = database_url
    return config


def upgrade(package: str, database_url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`; does nothing when it is there."""
    command.upgrade(alembic_config(package, database_url), revision)


def downgrade(package: str, database_url: str, revision: str) -> None:
    """Take the schema back to `revision` (`base` for none)."""
    command.downgrade(alembic_config(package, database_url), revision)


def run_environment(metadata: MetaData) -> None:
    """Do what a service's `migrations/env.py` is there for."""
    asyncio.run(_run(context.config.attributes["database_url"], metadata))


async def _run(database_url: str, metadata: MetaData) -> None:
    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": 10})
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate, metadata)
    finally:
        await engine.dispose()


def _migrate(connection: Connection, metadata: MetaData) -> None:
    _take_turn(connection)
    # Each revision is a transaction of its own, or several where it makes an index CONCURRENTLY.
    context.configure(
        connection=connection, target_metadata=metadata, compare_type=True, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


def _take_turn(connection: Connection) -> None:
    """Hold the lock as long as the connection lasts, beyond its transactions.

    Asks again and again: who waits inside PostgreSQL holds a snapshot, which CREATE INDEX CONCURRENTLY waits for.
    """
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK_KEY}):
        connection.rollback()
        time.sleep(_LOCK_POLL)
    connection.commit()


def missing_revision(package: str, applied: str | None) -> str | None:
    """Tell the revision that a database still needs, or None when this code can run on it.

    A revision this code does not know is a newer one: by the expand/contract rule old code runs on it.
    """
    scripts = ScriptDirectory.from_config(alembic_config(package))
    head = scripts.get_current_head()
    known = {script.revision for script in scripts.walk_revisions()}
    return head if applied != head and (applied is None or applied in known) else None
