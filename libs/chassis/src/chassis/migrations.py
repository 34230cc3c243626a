"""Alembic for a service: where its revisions lie, how to apply them, and whether they were applied.

Every service owns one database and has its revisions in its own package, `<package>/migrations`.
"""

import asyncio
import re
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from io import StringIO

from alembic import command, context
from alembic.config import Config
from alembic.migration import MigrationContext
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
_IDLE_TIMEOUT = 60.0
"""Seconds. Between two statements of a revision is nothing to wait for: who is frozen there gives its locks back."""
_ATTEMPTS = 10
_BETWEEN_ATTEMPTS = 2.0
_LOCKED_OUT = ("55P03", "40P01")  # not to be had in time, or only by whom we keep from going on
_KEEPS_NEWER = "keeps_newer"
# What the role, the database or a provider limits is meant for services: an index takes what it takes. And PostgreSQL
# looks after us, as a migration that was killed would work on, and keep those who come after it from taking their turn.
_OF_SESSION = text(
    """
    SELECT set_config(name, value, false) FROM pg_settings JOIN (
        VALUES ('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
               ('idle_session_timeout', '0'), ('client_connection_check_interval', '5s'),
               ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')
    ) AS ours (name, value) USING (name)
    """
)
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
    """Bring the schema to `revision`; does nothing when it is there, or at a revision that this code does not know.

    The latter is how a release before starts on the schema of one that was given up: it can run on it, and must.
    A lock that is not to be had in time is given up, so that those behind it get on, and asked for again.
    """
    config = alembic_config(package, database_url)
    config.attributes[_KEEPS_NEWER] = True
    _until_locks_are_had(partial(command.upgrade, config, revision))


def downgrade(package: str, database_url: str, revision: str) -> None:
    """Take the schema back to `revision` (`base` for none); locks as above.

    Raises:
        alembic.util.CommandError: The schema is at a revision that this code does not know.
    """
    _until_locks_are_had(partial(command.downgrade, alembic_config(package, database_url), revision))


def _until_locks_are_had(migrate: Callable[[], None]) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            migrate()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _LOCKED_OUT or attempt == _ATTEMPTS:
                raise
            _logger.warning("a lock was not to be had; the revision is tried again", attempt=attempt)
            time.sleep(_BETWEEN_ATTEMPTS)
        else:
            return


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
    limits = {"lock_timeout": _LOCK_TIMEOUT, "idle_in_transaction_session_timeout": _IDLE_TIMEOUT}
    arguments = connect_arguments(database_url, timeout=10, limits=limits, application_name="migrate")
    engine = create_async_engine(driver_url(database_url), poolclass=NullPool, connect_args=arguments)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate, metadata)
    finally:
        await engine.dispose()


def _migrate(connection: Connection, metadata: MetaData) -> None:
    connection.execute(_OF_SESSION)
    connection.commit()
    _take_turn(connection)
    # Each revision is a transaction of its own, or several where it makes an index CONCURRENTLY.
    context.configure(
        connection=connection, target_metadata=metadata, compare_type=True, transaction_per_migration=True
    )
    if context.config.attributes.get(_KEEPS_NEWER) and (newer := _not_known(connection, context.script)):
        _logger.warning("the schema is newer than this code, which runs on it as it is", revision=newer)
        return
    with context.begin_transaction():
        context.run_migrations()


def _take_turn(connection: Connection) -> None:
    """Hold the lock as long as the connection lasts, beyond its transactions.

    Asks again and again: who waits inside PostgreSQL holds a snapshot, which CREATE INDEX CONCURRENTLY waits for.
    """
    told = False
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK_KEY}):
        connection.rollback()
        if not told:
            told = True
            _logger.info("another migration is under way; this one waits for its end")
        time.sleep(_LOCK_POLL)
    connection.commit()


def _not_known(connection: Connection, scripts: ScriptDirectory) -> str | None:
    applied = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return applied if applied is not None and applied not in _revisions(scripts) else None


def _revisions(scripts: ScriptDirectory) -> set[str]:
    return {script.revision for script in scripts.walk_revisions()}


def missing_revision(package: str, applied: str | None) -> str | None:
    """Tell the revision that a database still needs, or None when this code can run on it.

    A revision this code does not know is a newer one: by the expand/contract rule old code runs on it.
    """
    scripts = ScriptDirectory.from_config(alembic_config(package))
    head = scripts.get_current_head()
    return head if applied != head and (applied is None or applied in _revisions(scripts)) else None
