"""A migration that cannot get a table's lock gives up, so that those behind it get on, and tries again."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import DBAPIError
from tests.postgres.connections import connected, revision

from chassis import migrations
from chassis.migrations import upgrade
from devstack.polling import within
from devstack.throwaway import DatabaseFactory

PATIENCE = 90.0
BEFORE, AFTER = "0004", "0005"
"""The later one adds a column to tasks, for which nobody may be reading them."""
WAITING = "SELECT pid FROM pg_locks WHERE relation = 'tasks'::regclass AND NOT granted AND mode = 'AccessExclusiveLock'"


@pytest.fixture
async def url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.empty("task_api") as url:
        await asyncio.to_thread(upgrade, "task_api", url, BEFORE)
        yield url


async def test_who_comes_behind_a_migration_that_waits_gets_on_and_so_does_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", 1.0)
    monkeypatch.setattr(migrations, "_BETWEEN_ATTEMPTS", 0.1)
    monkeypatch.setattr(migrations, "_ATTEMPTS", 1_000)  # it is to outlast the reader, however slow the machine is
    tried = set[int]()
    async with connected(url) as reader, connected(url) as behind, connected(url) as watcher:
        reading = reader.transaction()
        await reading.start()
        await reader.execute("SELECT FROM tasks")
        migrating = asyncio.create_task(asyncio.to_thread(upgrade, "task_api", url, AFTER))

        async def tries(times: int) -> bool:
            tried.update(row["pid"] for row in await watcher.fetch(WAITING))
            return len(tried) >= times

        assert await within(PATIENCE, lambda: tries(1), 0.02)
        async with asyncio.timeout(PATIENCE):
            await behind.fetch("SELECT FROM tasks")
        assert await within(PATIENCE, lambda: tries(3), 0.02), "again and again"
        assert await revision(watcher) == BEFORE
        await reading.rollback()
        async with asyncio.timeout(PATIENCE):
            await migrating
        assert await revision(watcher) == AFTER


async def test_a_migration_that_never_gets_its_lock_fails_and_has_changed_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", 0.1)
    monkeypatch.setattr(migrations, "_BETWEEN_ATTEMPTS", 0.0)
    async with connected(url) as reader:
        async with reader.transaction():
            await reader.execute("SELECT FROM tasks")
            with pytest.raises(DBAPIError, match="lock timeout"):
                await asyncio.to_thread(upgrade, "task_api", url, AFTER)
        assert await revision(reader) == BEFORE
        await asyncio.to_thread(upgrade, "task_api", url, AFTER)
        assert await revision(reader) == AFTER
