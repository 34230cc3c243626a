"""The database itself refuses to change the trail, and the chain tells when it was changed all the same."""

from typing import TypeAlias

import asyncpg
import httpx2
import pytest

from audit_worker.trail.chain import Head, verify_chain
from audit_worker.trail.schemas import AuditEntryOut
from chassis.testing import bearer, deliver, make_task_event

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def three_entries(client: httpx2.AsyncClient) -> None:
    await deliver(client, *(make_task_event(task, actor_id="bob") for task in (1, 2, 3)))


async def read_chain(client: httpx2.AsyncClient) -> list[AuditEntryOut]:
    response = await client.get("/api/v1/audit/entries", headers=bearer("olga", "auditor"))
    return [AuditEntryOut.model_validate(item) for item in response.json()["items"]]


@pytest.mark.usefixtures("three_entries")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET actor = 'nobody'",
        "UPDATE audit_entries SET actor = 'erased', salt = '' WHERE sequence = 2",
        "UPDATE audit_entries SET actor = 'nobody', salt = '', erased_at = now() WHERE sequence = 2",
        "UPDATE audit_entries SET changes = '{}', erased_at = now() WHERE sequence = 2",
        "UPDATE audit_entries SET actor = 'erased', salt = '', erased_at = now(), hash = repeat('a', 64)",
        """INSERT INTO audit_entries SELECT * FROM audit_entries WHERE sequence = 1
           ON CONFLICT (sequence) DO UPDATE SET actor = 'nobody'""",
        "DELETE FROM audit_entries WHERE sequence = 3",
        "TRUNCATE audit_entries",
        "DELETE FROM chain_head",
        "TRUNCATE chain_head",
    ],
)
async def test_the_database_refuses_to_change_what_was_recorded(
    client: httpx2.AsyncClient, database: Database, statement: str
) -> None:
    before = await read_chain(client)
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await database.execute(statement)
    assert await read_chain(client) == before


@pytest.mark.usefixtures("three_entries")
async def test_the_chain_cannot_fork(database: Database) -> None:
    columns = "event_id || 'x', type, task_id, task_version, owner_id, actor, changes, task, occurred_at, corr_id"
    with pytest.raises(asyncpg.UniqueViolationError, match="prev_hash"):
        await database.execute(
            f"INSERT INTO audit_entries SELECT 9, {columns}, recorded_at, salt, content_hash, prev_hash, hash "
            "FROM audit_entries WHERE sequence = 2"
        )


TAMPERING = {
    "event_id": "'other'",
    "type": "'task.deleted'",
    "task_id": "task_id + 1",
    "task_version": "task_version + 1",
    "owner_id": "'mallory'",
    "actor": "'mallory'",
    "changes": "jsonb_set(changes, '{title,new}', '\"Rob a bank\"')",
    "task": 'task || \'{"priority": "low"}\'',
    "occurred_at": "occurred_at - interval '1 microsecond'",
    "corr_id": "''",
    "recorded_at": "recorded_at + interval '1 microsecond'",
    "salt": "repeat('a', 32)",
    "content_hash": "repeat('a', 64)",
    "prev_hash": "repeat('a', 64)",
    "actor_hash": "repeat('a', 64)",
    "actor_salt": "repeat('a', 32)",
    "hash": "repeat('a', 64)",
}


@pytest.mark.usefixtures("three_entries")
@pytest.mark.parametrize("column", TAMPERING)
async def test_what_somebody_changed_past_the_trigger_is_found_by_the_chain(
    client: httpx2.AsyncClient, database: Database, column: str
) -> None:
    assert verify_chain(await read_chain(client)) == []
    await database.execute("ALTER TABLE audit_entries DISABLE TRIGGER USER")
    await database.execute(f"UPDATE audit_entries SET {column} = {TAMPERING[column]} WHERE sequence = 2")
    assert {fault.sequence for fault in verify_chain(await read_chain(client))} >= {2}


@pytest.mark.usefixtures("three_entries")
async def test_a_tail_cut_off_past_the_trigger_is_found_against_the_head(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await database.execute("ALTER TABLE audit_entries DISABLE TRIGGER USER")
    await database.execute("DELETE FROM audit_entries WHERE sequence = 3")
    row = await database.fetchrow("SELECT sequence, hash FROM chain_head")
    assert row is not None
    faults = verify_chain(await read_chain(client), head=Head(row["sequence"], row["hash"]))
    assert [fault.sequence for fault in faults] == [3]
