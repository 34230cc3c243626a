"""The purge beside others: of other replicas, restores, whoever holds a task, and when it is killed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from chassis.database import Database
from chassis.testing import PATIENCE, bearer
from devstack.polling import within
from task_api.purge.service import Purge
from task_api.tasks.retention import Retention

TASKS = "/api/v1/tasks"
ALICE = bearer("alice")
RETENTION = 60
TABLES = ("tasks", "comments", "completions", "outbox")
PROCESS = """
import asyncio, sys
from chassis.database import open_database
from chassis.testing import settings_for
from task_api.purge.service import Purge
from task_api.settings import TaskApiSettings
from task_api.settings import TaskApiSettings
from task_api.tasks.retention import Retention

database = open_database(settings_for(TaskApiSettings, sys.argv[1]), application_name="purge under test")
asyncio.run(Purge(Retention(days=60)).run(database))
"""


async def execute(database: Database, statement: str, **values: object) -> list[Any]:
    async with database.session() as session:
        result = await (await session.connection()).execute(text(statement), values)
        rows = list(result) if result.returns_rows else []
        await session.commit()
        return rows


async def counts(database: Database) -> dict[str, int]:
    return {table: (await execute(database, f"SELECT count(*) FROM {table}"))[0][0] for table in TABLES}


async def ids(database: Database) -> list[int]:
    return [row.id for row in await execute(database, "SELECT id FROM tasks ORDER BY id")]


async def deleted_task(client: httpx2.AsyncClient, parent_id: int | None = None, *, delete: bool = True) -> int:
    """A deleted task with two comments, that was completed twice."""
    task = (await client.post(TASKS, json={"title": "x", "parent_id": parent_id}, headers=ALICE)).json()
    path = f"{TASKS}/{task['id']}"
    for body in ("one", "two"):
        await client.post(f"{path}/comments", json={"body": body}, headers=ALICE)
    for _ in range(3):
        await client.post(f"{path}/toggle", headers=ALICE)
    if delete:
        assert (await client.delete(path, headers=ALICE)).status_code == 204
    task_id: int = task["id"]
    return task_id


async def everything_left(database: Database) -> None:
    """As if the relay had sent all events; no sidecar is here."""
    await execute(database, "DELETE FROM outbox")


async def age(database: Database, days: float, *task_ids: int) -> None:
    """Let tasks have been deleted so many days ago; without ids, all that are deleted."""
    statement = """
        UPDATE tasks SET deleted_at = now() - make_interval(secs => 86400 * :days)
        WHERE deleted_at IS NOT NULL AND (cardinality(CAST(:ids AS bigint[])) = 0 OR id = ANY(:ids))
    """
    await execute(database, statement, days=days, ids=list(task_ids))


async def purge(database: Database, days: int = RETENTION) -> dict[str, int]:
    return await Purge(Retention(days)).run(database)


async def many(database: Database, tasks: int, completions: int, comments: int) -> None:
    """Deleted long ago, each with so much."""
    statement = """
        WITH made AS (
            INSERT INTO tasks (owner_id, title, priority, completed, version, created_at, updated_at, deleted_at)
            SELECT 'alice', 'x', 'low', false, 1, now(), now(), now() - interval '90 days' - n * interval '1 second'
            FROM generate_series(1, :tasks) AS n RETURNING id
        ), history AS (
            INSERT INTO completions (owner_id, task_id, series_id, title, completed_at, reopened_at)
            SELECT 'alice', id, id, 'x', now(), now() FROM made, generate_series(1, :completions)
        )
        INSERT INTO comments (task_id, author_id, body, version, created_at)
        SELECT id, 'alice', 'x', 1, now() FROM made, generate_series(1, :comments)
    """
    await execute(database, statement, tasks=tasks, completions=completions, comments=comments)


async def test_replicas_purge_at_once_and_each_row_goes_once(database: Database) -> None:
    await many(database, 700, 2, 2)
    purged = await asyncio.gather(*(purge(database) for _ in range(4)))
    total = {table: sum(one.get(table, 0) for one in purged) for table in ("tasks", "completions", "comments")}
    assert total == {"tasks": 700, "completions": 1400, "comments": 1400}
    assert await counts(database) == dict.fromkeys(TABLES, 0)


async def test_a_purge_waits_for_nobody(database: Database) -> None:
    await many(database, 5, 1, 1)
    held, *others = await ids(database)
    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(text("SELECT 1 FROM tasks WHERE id = :id FOR UPDATE"), {"id": held})
        assert (await purge(database))["tasks"] == len(others)
        assert await ids(database) == [held]
    assert (await purge(database))["tasks"] == 1


async def test_restores_and_purges_at_once_leave_each_task_whole_or_gone(
    client: httpx2.AsyncClient, database: Database
) -> None:
    old = [await deleted_task(client) for _ in range(6)]
    young = [await deleted_task(client) for _ in range(6)]
    await everything_left(database)
    await age(database, RETENTION + 1, *old)
    await age(database, RETENTION - 0.01, *young)
    restores = [client.post(f"{TASKS}/{task_id}/restore", headers=ALICE) for task_id in old + young]
    *_, answers = await asyncio.gather(purge(database), purge(database), asyncio.gather(*restores))
    assert [answer.status_code for answer in answers] == [404] * 6 + [200] * 6
    await purge(database)
    assert await ids(database) == young
    for task_id in young:
        for part in ("comments", "completions"):
            assert len((await client.get(f"{TASKS}/{task_id}/{part}", headers=ALICE)).json()["items"]) == 2


@asynccontextmanager
async def purging_process(database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, database_url)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("table", ["comments", "completions"])
async def test_a_purge_that_is_killed_half_way_leaves_all_as_it_was_and_the_next_one_goes_on(
    database_url: str, database: Database, table: str
) -> None:
    await many(database, 3, 2, 2)
    before = await counts(database)

    async def waits() -> bool:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = :name AND wait_event_type = 'Lock'"
        return bool(await execute(database, waiting, name="purge under test"))

    async def is_gone() -> bool:
        # A pooler keeps idle connections under the name of whoever was the last to use them.
        alive = "SELECT 1 FROM pg_stat_activity WHERE application_name = :name AND state <> 'idle'"
        return not await execute(database, alive, name="purge under test")

    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(text(f"SELECT 1 FROM {table} ORDER BY id DESC LIMIT 1 FOR UPDATE"))
        async with purging_process(database_url) as process:
            assert await within(PATIENCE, waits, 0.05)
            process.send_signal(signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL
        # PostgreSQL notices once the lock is free, or before.
    assert await within(PATIENCE, is_gone, 0.05)
    assert await counts(database) == before
    assert (await purge(database))["tasks"] == 3
    assert await counts(database) == dict.fromkeys(TABLES, 0)
