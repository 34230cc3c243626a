"""Migrations that meet limits of the database, a deadlock, the end of their process, or a schema of a later release."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.util import CommandError
from tests.postgres.connections import connected, revision

from chassis import migrations
from chassis.migrations import downgrade, upgrade
from chassis.testing import serving, settings_for
from devstack.polling import within
from devstack.postgres import PostgresServer
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

PATIENCE = 90.0
BEFORE, WITH_INDEXES = "0007", "0008"
"""The later one makes indexes of tasks CONCURRENTLY, which waits for everybody who writes to them."""
WRITES = "LOCK TABLE tasks IN ROW EXCLUSIVE MODE"
"""As whoever inserts does."""
MAKING = """
    SELECT extract(epoch FROM clock_timestamp() - query_start)::float FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
"""
TURNS = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
async def url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.empty("task_api") as url:
        yield url


async def test_code_of_the_release_before_leaves_a_newer_schema_as_it_is_and_does_not_take_it_down(url: str) -> None:
    await asyncio.to_thread(upgrade, "task_api", url)
    async with connected(url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        await asyncio.to_thread(upgrade, "task_api", url)
        async with serving(create_app(settings_for(TaskApiSettings, url))) as client:
            assert (await client.get("/health/ready")).status_code == 200
        with pytest.raises(CommandError, match="9999"):
            await asyncio.to_thread(downgrade, "task_api", url, BEFORE)
        assert await revision(connection) == "9999"


async def test_limits_that_are_meant_for_services_end_no_migration(url: str) -> None:
    await asyncio.to_thread(upgrade, "task_api", url, BEFORE)
    limit = 3.0
    async with connected(url) as writer, connected(url) as watcher:
        name = await watcher.fetchval("SELECT current_database()")
        for setting in ("statement_timeout", "lock_timeout"):
            await watcher.execute(f"ALTER DATABASE \"{name}\" SET {setting} = '{limit:.0f}s'")
        writing = writer.transaction()
        await writing.start()
        await writer.execute(WRITES)
        migrating = asyncio.create_task(asyncio.to_thread(upgrade, "task_api", url, WITH_INDEXES))

        async def waits_for_longer() -> bool:
            assert not migrating.done(), migrating.result()
            return (await watcher.fetchval(MAKING) or 0.0) > limit + 1

        assert await within(PATIENCE, waits_for_longer, 0.1)
        await writing.rollback()
        async with asyncio.timeout(PATIENCE):
            await migrating
        assert await revision(watcher) == WITH_INDEXES


async def test_a_migration_that_was_killed_keeps_nobody_from_taking_its_turn(url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(upgrade, "task_api", url, BEFORE)
    async with connected(url) as writer, connected(url) as watcher:
        writing = writer.transaction()
        await writing.start()
        await writer.execute(WRITES)
        with (tmp_path / "log").open("wb") as log:
            program = f"from chassis.migrations import upgrade; upgrade('task_api', {url!r}, '{WITH_INDEXES}')"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=log, stderr=log)

        async def works() -> bool:
            assert process.returncode is None, (tmp_path / "log").read_text()
            return bool(await watcher.fetch(MAKING))

        async def is_over() -> bool:
            return not await watcher.fetchval(TURNS)

        assert await within(PATIENCE, works, 0.1)
        assert await watcher.fetchval(TURNS) == 1
        process.kill()
        await process.wait()
        # The index that it was making waits for the writer still; PostgreSQL finds that nobody wants it any more.
        assert await within(PATIENCE, is_over, 0.1)
        await writing.rollback()
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(upgrade, "task_api", url, WITH_INDEXES)
        assert await revision(watcher) == WITH_INDEXES


async def test_a_migration_that_meets_others_crosswise_gives_way_and_tries_again(
    url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", PATIENCE)  # it is the deadlock that is to end its first attempt
    await asyncio.to_thread(upgrade, "task_api", url, "0012")
    as_superuser = postgres_server.dsn(url.rsplit("/", 1)[1])
    async with connected(url) as gate, connected(as_superuser) as user, connected(url) as watcher:

        async def waits_for(table: str) -> bool:
            async def is_so() -> bool:
                return bool(
                    await watcher.fetch(f"SELECT FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted")
                )

            return await within(PATIENCE, is_so, 0.02)

        # 0013 changes account_erasures, then engagement_members, then api_keys.
        holding, using = gate.transaction(), user.transaction()
        await holding.start()
        await gate.execute("LOCK TABLE engagement_members IN ROW EXCLUSIVE MODE")
        await user.execute("SET deadlock_timeout = '1h'")  # so that it is not this one that gives way
        await using.start()
        await user.execute("LOCK TABLE api_keys IN ROW EXCLUSIVE MODE")
        migrating = asyncio.create_task(asyncio.to_thread(upgrade, "task_api", url, "0013"))
        assert await waits_for("engagement_members")
        reading = asyncio.create_task(user.execute("LOCK TABLE account_erasures IN ACCESS SHARE MODE"))
        assert await waits_for("account_erasures")
        await holding.rollback()
        async with asyncio.timeout(PATIENCE):
            await reading
        assert await revision(watcher) == "0012"
        await using.rollback()
        async with asyncio.timeout(PATIENCE):
            await migrating
        assert await revision(watcher) == "0013"
