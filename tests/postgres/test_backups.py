"""A backup is restored and is what was there: rows, revisions and the audit chain; and one that is not is noticed."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from audit_worker.app import create_app as create_audit_worker
from audit_worker.settings import AuditWorkerSettings
from chassis.migrations import upgrade
from chassis.testing import bearer, deliver_until_taken, make_task_event, serving, settings_for
from devstack import backups
from devstack.databases import CONNECT_TIMEOUT
from devstack.failures import ProvisionError
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

Databases = dict[str, str]


@pytest.fixture
async def running(databases: DatabaseFactory) -> AsyncIterator[Databases]:
    async with (
        databases.fresh("task_api", lambda url: upgrade("task_api", url)) as tasks,
        databases.fresh("audit_worker", lambda url: upgrade("audit_worker", url)) as audit,
    ):
        yield {"task-api": tasks, "audit-worker": audit}


async def use(running: Databases, begin: int) -> None:
    """Make what people make: tasks with their events, and entries of the trail."""
    nobody = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
    async with serving(create_app(settings_for(TaskApiSettings, running["task-api"], **nobody))) as client:
        for number in range(begin, begin + 3):
            made = await client.post("/api/v1/tasks", json={"title": f"Öl {number}"}, headers=bearer("alice"))
            assert made.status_code == 201
    async with serving(create_audit_worker(settings_for(AuditWorkerSettings, running["audit-worker"]))) as client:
        await deliver_until_taken(client, *(make_task_event(task) for task in range(begin, begin + 3)))


async def execute(dsn: str, statement: str) -> list[str]:
    connection = await asyncpg.connect(dsn, ssl=False, timeout=CONNECT_TIMEOUT)
    try:
        return [str(row[0]) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


TITLES = "SELECT title FROM tasks ORDER BY id"
TAMPER = """
    DO $$ BEGIN
        ALTER TABLE audit_entries DISABLE TRIGGER USER;
        UPDATE audit_entries SET changes = '{}' WHERE sequence = 2;
    END $$
"""


async def test_a_backup_brings_back_what_was_there_and_what_is_not_the_same_is_named(
    running: Databases, tmp_path: Path
) -> None:
    await use(running, 1)
    titles, outbox = await execute(running["task-api"], TITLES), "SELECT id FROM outbox ORDER BY id"
    events = await execute(running["task-api"], outbox)
    manifest = await backups.back_up(running, tmp_path / "good")
    assert manifest["databases"]["audit-worker"]["rows"]["audit_entries"] == 3
    assert await backups.differences(running, tmp_path / "good") == []

    await use(running, 4)
    await execute(running["task-api"], "DROP TABLE comments")
    await execute(running["task-api"], "CREATE TABLE of_a_later_revision (id int)")
    found = await backups.differences(running, tmp_path / "good")
    assert "task-api: tasks has 6 rows, not 3" in found
    assert "audit-worker: audit_entries has 6 rows, not 3" in found

    await backups.restore(running, tmp_path / "good")
    assert await backups.differences(running, tmp_path / "good") == []
    assert await execute(running["task-api"], TITLES) == titles
    assert await execute(running["task-api"], outbox) == events, "to be published, maybe again"
    await use(running, 7)  # and goes on: numbers, triggers and the chain are all there
    assert await backups.differences(running, tmp_path / "good") != []

    await execute(running["audit-worker"], TAMPER)
    await backups.back_up(running, tmp_path / "tampered")
    await backups.restore(running, tmp_path / "tampered")
    said = await backups.differences(running, tmp_path / "tampered")
    assert [line.startswith("audit-worker: 2: ") for line in said] == [True]


async def test_a_backup_that_is_not_whole_or_a_database_in_use_is_left_alone(
    running: Databases, tmp_path: Path
) -> None:
    await backups.back_up(running, tmp_path / "backup")
    with pytest.raises(ProvisionError, match="is there already"):
        await backups.back_up(running, tmp_path / "backup")
    user = await asyncpg.connect(running["task-api"], ssl=False, server_settings={"application_name": "task-api"})
    with pytest.raises(ProvisionError, match="in use by task-api"):
        await backups.restore(running, tmp_path / "backup")
    await user.close()
    with (tmp_path / "backup" / "task-api.dump").open("ab") as dump:
        dump.write(b"x")
    with pytest.raises(ProvisionError, match="not what was written"):
        await backups.restore(running, tmp_path / "backup")
    with pytest.raises(ProvisionError, match="holds no backup"):
        backups.read_manifest(tmp_path)
