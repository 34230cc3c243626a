"""The feed is served by its index, whoever else has how many tasks."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database
from task_api.sync.models import Position
from task_api.sync.repository import CHANGED_OWNERS, page_statement


@pytest.fixture
async def twenty_thousand(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection to a database with 20,000 tasks of ten users, a third of them deleted."""
    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(
            text(
                "INSERT INTO tasks (owner_id, title, priority, completed, version, created_at, updated_at, deleted_at)"
                " SELECT 'owner-' || n % 10, 'x', 'low', false, 1, now(), now(), CASE WHEN n % 3 = 0 THEN now() END"
                " FROM generate_series(1, 20000) AS n"
            )
        )
        await session.commit()
        connection = await session.connection()
        await connection.execute(text("ANALYZE tasks"))
        yield connection


async def test_the_feed_is_served_by_its_index(database: Database, twenty_thousand: AsyncConnection) -> None:
    compiled = page_statement("owner-7", Position(5, 3), 100).compile(
        dialect=database.engine.dialect, compile_kwargs={"literal_binds": True}
    )
    explain = text(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {compiled}")
    plan = "\n".join(await twenty_thousand.scalars(explain))
    assert "Index Scan using tasks_owner_id_changed_xid_id_idx on tasks (actual rows=101.00" in plan, plan
    assert "Seq Scan on tasks" not in plan
    assert "Index Cond: ((owner_id = 'owner-7'::text) AND (ROW(changed_xid, id) > ROW(" in plan, plan


async def test_a_look_on_behalf_of_all_streams_probes_the_index_once_per_user(twenty_thousand: AsyncConnection) -> None:
    owners = [f"owner-{number}" for number in range(20)]  # ten of them have tasks
    explain = text(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {CHANGED_OWNERS.text}")
    rows = await twenty_thousand.scalars(explain, {"owner_ids": owners, "since": 1, "horizon": 2**62})
    plan = "\n".join(rows)
    assert "using tasks_owner_id_changed_xid_id_idx on tasks (actual rows=0.50 loops=20" in plan, plan
    assert "Seq Scan on tasks" not in plan
