"""The lists of completions and comments, and the purge, are served by indexes: read from PostgreSQL's own plans."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.database import open_database
from chassis.migrations import upgrade
from chassis.testing import bearer, serving, settings_for
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.purge.service import Purge
from task_api.settings import TaskApiSettings
from task_api.tasks.retention import Retention

# Of 100,000 tasks of 2,000 owners a tenth is one owner's. All were completed once, and some more often; that one's
# first task 5,000 times, and it has 5,000 comments, more than it may: what is read must not depend on it.
FILL = """
INSERT INTO tasks (id, owner_id, title, priority, completed, version, created_at, updated_at, deleted_at)
OVERRIDING SYSTEM VALUE
SELECT n, CASE WHEN n % 10 = 0 THEN 'big' ELSE 'owner-' || n % 2000 END, 'x', 'low', false, 1, now(), now(),
       CASE WHEN n % 50 = 7 THEN now() - n % 60 * interval '1 day' END
FROM generate_series(1, 100000) AS n;

INSERT INTO completions (owner_id, task_id, series_id, title, completed_at, reopened_at)
SELECT owner_id, id, id, 'x', now() - n * interval '1 minute', CASE WHEN n > 100000 THEN now() END
FROM generate_series(1, 150000) AS n
JOIN tasks ON id = CASE WHEN n <= 100000 THEN n WHEN n % 10 = 0 THEN 10 ELSE n % 10000 END;

INSERT INTO comments (task_id, author_id, body, version, created_at)
SELECT CASE WHEN n % 20 = 0 THEN 10 ELSE 1 + n % 19999 END, 'x', 'hello', 1, now() FROM generate_series(1, 100000) AS n
"""
GENERIC_PLAN = """
CREATE FUNCTION pg_temp.generic_plan(statement text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON, GENERIC_PLAN) ' || statement INTO plan;
    RETURN plan;
END $$
"""
SEEN_BY = {"big": 10, "owner-77": 77}
OF_OWNER, OF_SERIES = "completions_owner_id_completed_at_idx", "completions_series_id_completed_at_idx"
LISTS = [
    ("/api/v1/completions?limit=5", OF_OWNER),
    ("/api/v1/completions?limit=5&reopened=false", OF_OWNER),
    ("/api/v1/completions?limit=5&completed_after={}", OF_OWNER),
    ("/api/v1/completions?limit=5&completed_after={}&completed_before=2190-01-01T00:00:00Z", OF_OWNER),
    ("/api/v1/tasks/{id}/completions?limit=4", OF_SERIES),
    ("/api/v1/tasks/{id}/comments?limit=3", "comments_task_id_id_idx"),
]

Sent = list[tuple[str, tuple[object, ...]]]


@pytest.fixture(scope="module")
async def crowded_url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(FILL)
        for table in ("tasks", "completions", "comments"):
            await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.close()
        yield url


@pytest.fixture(scope="module")
async def crowded(crowded_url: str) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    app = create_app(settings_for(TaskApiSettings, crowded_url))
    async with serving(app) as client:
        yield app, client


@contextmanager
def statements_of(engine: AsyncEngine) -> Iterator[Sent]:
    seen: Sent = []

    def note(_c: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        task = asyncio.current_task()
        in_background = task is not None and not task.get_name().startswith("Task-")  # the purge, for example
        if any(table in statement for table in ("completions", "comments", "tasks")) and not in_background:
            seen.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [node for node in found if "Scan" in node["Node Type"] and node["Node Type"] != "Bitmap Heap Scan"]


async def plans(url: str, seen: Sent) -> list[list[dict[str, Any]]]:
    """The nodes of each statement's plan, for its values, and as a prepared statement may be planned for any."""
    connection = await asyncpg.connect(url)
    found = []
    try:
        await connection.execute(GENERIC_PLAN)
        for statement, parameters in seen:
            custom = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
            generic = await connection.fetchval("SELECT pg_temp.generic_plan($1)", statement)
            found += [list(nodes(json.loads(plan)[0]["Plan"])) for plan in (custom, generic)]
    finally:
        await connection.close()
    return found


async def scans_of(url: str, seen: Sent) -> list[list[dict[str, Any]]]:
    return [scans(found) for found in await plans(url, seen)]


@pytest.mark.parametrize("owner", SEEN_BY)
@pytest.mark.parametrize(("path", "index"), LISTS)
async def test_each_page_is_read_from_where_the_last_one_ended(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str, owner: str, path: str, index: str
) -> None:
    app, client = crowded
    address = path.format("2026-01-01T00:00:00Z", id=SEEN_BY[owner])
    page = await client.get(address, headers=bearer(owner))
    assert page.status_code == 200, page.text
    cursor = page.json()["next_cursor"]
    assert cursor is not None
    with statements_of(app.state.database.engine) as seen:
        again = await client.get(f"{address}&cursor={cursor}", headers=bearer(owner))
    assert again.status_code == 200, again.text
    for found in await scans_of(crowded_url, seen):
        # Of one task there are few, which for any values may be fetched together and sorted.
        assert {scan["Node Type"] for scan in found} <= {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}, found
        assert index != OF_OWNER or all(scan["Node Type"] != "Bitmap Index Scan" for scan in found), found
        assert all("id = " in scan["Index Cond"] for scan in found if scan.get("Relation Name") == "tasks"), found
    if index == OF_OWNER:
        for found in await plans(crowded_url, seen):
            assert [node["Node Type"] for node in found] == ["Limit", "Index Scan"], "nothing is sorted"
    last = [scan for found in await scans_of(crowded_url, seen[-1:]) for scan in found if scan["Index Name"] == index]
    assert len(last) == 2
    for scan in last:
        assert "ROW(" in scan["Index Cond"] or "id >" in scan["Index Cond"], "it begins at the cursor"


@pytest.mark.parametrize("owner", SEEN_BY)
@pytest.mark.parametrize(("path", "index"), LISTS)
async def test_totals_go_through_nothing_of_others(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str, owner: str, path: str, index: str
) -> None:
    app, client = crowded
    address = path.format("2026-01-01T00:00:00Z", id=SEEN_BY[owner])
    with statements_of(app.state.database.engine) as seen:
        assert (await client.get(f"{address}&total=true", headers=bearer(owner))).status_code == 200
    for found in await scans_of(crowded_url, seen):
        assert all("id = " in scan.get("Index Cond", "") for scan in found), found
    assert index in {scan["Index Name"] for found in await scans_of(crowded_url, seen[-1:]) for scan in found}


async def test_a_comment_is_found_by_its_id_and_history_written_by_index(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str
) -> None:
    app, client = crowded
    comment = (await client.get("/api/v1/tasks/77/comments?limit=1", headers=bearer("owner-77"))).json()["items"][0]
    with statements_of(app.state.database.engine) as seen:
        path = f"/api/v1/comments/{comment['id']}"
        assert (await client.patch(path, json={"body": "x"}, headers=bearer("owner-77"))).status_code == 200
        for action in ("complete", "reopen"):
            answer = await client.post(f"/api/v1/tasks/77/{action}", headers=bearer("owner-77"))
            assert answer.status_code == 200
    written = [(statement, parameters) for statement, parameters in seen if "completions" in statement]
    assert len(written) == 2
    for scans in await scans_of(crowded_url, [one for one in seen if "FROM comments" in one[0]] + written):
        # Who is in engagements is looked at only for what is not one's own; see test_list_plans.py.
        found = [scan for scan in scans if "engagement_members" not in str(scan)]
        assert found
        assert all(scan["Node Type"] == "Index Scan" for scan in found), found


async def test_the_purge_looks_at_deleted_tasks_only(crowded_url: str) -> None:
    settings = settings_for(TaskApiSettings, crowded_url)
    database = open_database(settings, application_name="test")
    try:
        with statements_of(database.engine) as seen:
            assert (await Purge(Retention(days=55)).run(database))["tasks"] > 0
    finally:
        await database.close()
    due, parts = seen[0], [one for one in seen if "DELETE" in one[0]]
    for found in await scans_of(crowded_url, [due]):
        assert "tasks_deleted_at_idx" in {scan.get("Index Name") for scan in found}, found
        # The outbox is empty and read as a whole; that of a backlog has an index for it.
        assert all(scan["Node Type"] != "Seq Scan" or scan["Relation Name"] == "outbox" for scan in found), found
    for found in await scans_of(crowded_url, parts):
        assert all(scan["Node Type"] != "Seq Scan" for scan in found), found
