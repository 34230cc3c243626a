"""Alembic for a service: where its revisions lie, how to apply them, and whether they were applied.

Every service owns one database and has its revisions in its own package, `<package>/migrations`.
"""

import asyncio
import re
import time
from importlib.resources import files
from io import StringIO

from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chassis.database_connection import connect_arguments, driver_url
from chassis.logging import get_logger

_LOCK_KEY = 0x7461736B  # "task": two replicas that migrate at once take turns
_LOCK_POLL = 0.2
_LOCK_TIMEOUT = 3.0
"""Seconds. Who waits for a table's lock stops everybody who comes after; statements without a transaction, such as
CREATE INDEX CONCURRENTLY, stop nobody and may wait."""
_ATTEMPTS = 10
_BETWEEN_ATTEMPTS = 2.0
_LOCK_NOT_AVAILABLE = "55P03"
_ALEMBICS_OWN = re.compile(r"^(CREATE TABLE|INSERT INTO|UPDATE) alembic_version\b.*?;$", re.DOTALL | re.MULTILINE)
_logger = get_logger(__name__)


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
    """Bring the schema to `revision`; does nothing when it is there.

    A lock that is not to be had in time is given up, so that those behind it get on, and asked for again.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            command.upgrade(alembic_config(package, database_url), revision)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE or attempt == _ATTEMPTS:
                raise
            _logger.warning("a lock was not to be had; the revision is tried again", attempt=attempt)
            time.sleep(_BETWEEN_ATTEMPTS)
        else:
            return


def downgrade(package: str, database_url: str, revision: str) -> None:
    """Take the schema back to `revision` (`base` for none)."""
    command.downgrade(alembic_config(package, database_url), revision)


def rendered(package: str, revision: str) -> str:
    """Give the SQL of one revision as it is sent, without a database, and without what Alembic notes for itself."""
    scripts = ScriptDirectory.from_config(alembic_config(package))
    script = scripts.get_revision(revision)
    buffer = StringIO()
    config = alembic_config(package)
    config.output_buffer = buffer
    command.upgrade(config, f"{script.down_revision or 'base'}:{revision}", sql=True)
    return _ALEMBICS_OWN.sub("", buffer.getvalue())


def run_environment(metadata: MetaData) -> None:
    """Do what a service's `migrations/env.py` is there for."""
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    asyncio.run(_run(context.config.attributes["database_url"], metadata))


async def _run(database_url: str, metadata: MetaData) -> None:
    arguments = connect_arguments(database_url, timeout=10, limits={"lock_timeout": _LOCK_TIMEOUT})
    engine = create_async_engine(driver_url(database_url), poolclass=NullPool, connect_args=arguments)
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
