"""Reading a feed goes along an index of its owner's due dates: read from PostgreSQL's own plans, among 50,000 tasks."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from chassis.database import Database, open_database
from chassis.migrations import upgrade
from chassis.testing import settings_for
from devstack.throwaway import DatabaseFactory
from task_api.calendar_feeds.repository import CalendarFeedRepository
from task_api.calendar_feeds.service import MAX_TASKS
from task_api.secret_tokens import FEED_PREFIX, new_token
from task_api.settings import TaskApiSettings

# One owner has a tenth of all tasks.
FILL = """
INSERT INTO tasks (owner_id, title, priority, due_at, completed, completed_at, position, version, created_at,
                   updated_at, deleted_at)
SELECT CASE WHEN n % 10 = 0 THEN 'big' ELSE 'owner-' || n % 500 END, 'word' || n, 'low',
       CASE WHEN n % 4 > 0 THEN now() + (n * 7919 % 50021 - 25000) * interval '1 minute' END,
       n / 500 % 5 = 1, CASE WHEN n / 500 % 5 = 1 THEN now() END, '0', 1, now(), now(),
       CASE WHEN n % 50 = 7 THEN now() END
FROM generate_series(1, 50000) AS n
"""
FEEDS = """
INSERT INTO calendar_feeds (owner_id, name, token_digest, token_hint, created_at, token_created_at)
SELECT 'owner-' || n % 500, 'x', sha256(n::text::bytea), 'x', now(), now() FROM generate_series(1, 5000) AS n
"""
# In a function, because with parameters to come a driver would insist on having them.
GENERIC_PLAN = """
CREATE FUNCTION pg_temp.generic_plan(statement text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON, GENERIC_PLAN) ' || statement INTO plan;
    RETURN plan;
END $$
"""
Statements = list[tuple[str, tuple[object, ...]]]


@pytest.fixture(scope="module")
async def crowded_url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        connection = await asyncpg.connect(url)
        for fill in (FILL, FEEDS):
            await connection.execute(fill)
        await connection.execute("VACUUM ANALYZE tasks, calendar_feeds")
        await connection.close()
        yield url


@pytest.fixture(scope="module")
async def crowded(crowded_url: str) -> AsyncIterator[Database]:
    settings = settings_for(TaskApiSettings, crowded_url)
    database = open_database(settings, application_name="test")
    yield database
    await database.close()


async def plans(database: Database, url: str, statements: Statements) -> list[dict[str, Any]]:
    """Give each plan for these values, and the one for any, which a prepared statement may change to."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(GENERIC_PLAN)
        found = []
        for statement, parameters in statements:
            found.append(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters))
            found.append(await connection.fetchval("SELECT pg_temp.generic_plan($1)", statement))
    finally:
        await connection.close()
    return [json.loads(plan)[0]["Plan"] for plan in found]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def noted(database: Database) -> Statements:
    """Collect what is sent to PostgreSQL from now on."""
    seen: Statements = []

    def note(_c: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    return seen


@pytest.mark.parametrize("owner", ["owner-77", "big"])
@pytest.mark.parametrize("completed", [None, False, True])
async def test_a_feed_is_read_by_indexes_of_its_owner(
    crowded: Database, crowded_url: str, owner: str, completed: bool | None
) -> None:
    for plan in await plans(crowded, crowded_url, await reading(crowded, owner, completed, limit=MAX_TASKS)):
        shown = json.dumps(plan, indent=1)
        assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"], shown
        scans = [node for node in nodes(plan) if "Index Name" in node]
        assert len(scans) == 2, shown
        assert all("owner_id =" in scan["Index Cond"] for scan in scans), shown


@pytest.mark.parametrize(("completed", "index"), [(None, "tasks_owner_id_due_idx"), (False, "tasks_open_due_idx")])
async def test_who_has_many_more_tasks_than_a_feed_has_them_read_in_order_and_no_further(
    crowded: Database, crowded_url: str, completed: bool | None, index: str
) -> None:
    plan, _ = await plans(crowded, crowded_url, await reading(crowded, "big", completed, limit=50))
    shown = json.dumps(plan, indent=1)
    ways = [node for node in nodes(plan) if node["Node Type"] == "Limit"][1:]
    assert [[one["Node Type"] for one in nodes(way)] for way in ways] == [["Limit", "Index Scan"]] * 2, shown
    scans = [node for node in nodes(plan) if "Index Name" in node]
    assert [scan["Index Name"] for scan in scans] == [index] * 2, shown
    assert all("owner_id =" in scan["Index Cond"] and "due_at" in scan["Index Cond"] for scan in scans), shown
    assert "ROW" in scans[0]["Index Cond"], "what comes ends where tasks without a due date begin"


async def reading(database: Database, owner: str, completed: bool | None, *, limit: int) -> Statements:
    """Give the statement that reads a feed."""
    async with database.session() as session:
        seen = noted(database)
        found = await CalendarFeedRepository(session).nearest_tasks(
            owner, completed=completed, now=datetime.now(UTC), limit=limit, description_chars=500
        )
    assert found
    return seen[:1]


async def test_a_token_is_looked_up_in_an_index(crowded: Database, crowded_url: str) -> None:
    seen = noted(crowded)
    async with crowded.session() as session:
        assert await CalendarFeedRepository(session).find_by_digest(new_token(FEED_PREFIX).digest) is None
        await CalendarFeedRepository(session).all_of("owner-77")
        await CalendarFeedRepository(session).count("owner-77")
    used = [
        {node["Index Name"] for node in nodes(plan) if "Index Name" in node}
        for plan in await plans(crowded, crowded_url, seen)
    ]
    assert used == [{"calendar_feeds_token_digest_key"}] * 2 + [{"calendar_feeds_owner_id_id_idx"}] * 4
