"""Each kind of list is served by an index: read from PostgreSQL's own plans, on 200,000 tasks of 2,000 owners."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from chassis.migrations import upgrade
from chassis.testing import bearer, serving, settings_for
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

TASKS = "/api/v1/tasks"
# One owner has a tenth of all tasks, so that plans for few and for many are both looked at; an engagement has too.
FILL = """
INSERT INTO tasks (owner_id, title, description, priority, due_at, completed, completed_at, tags, position,
                   parent_id, version, created_at, updated_at, deleted_at)
SELECT CASE WHEN n % 10 = 0 THEN 'big' WHEN n % 10 = 5 THEN 'engagement:1' ELSE 'owner-' || n % 2000 END,
       'word' || n * 7 % 5003 || ' word' || n % 97,
       CASE WHEN n % 2 = 0 THEN 'more' || n % 1009 END,
       (ARRAY['high', 'medium', 'low'])[1 + n % 3],
       CASE WHEN n % 4 > 0 THEN now() + (n % 20011 - 5000) * interval '1 minute' END,
       n % 5 = 1, CASE WHEN n % 5 = 1 THEN now() END,
       ARRAY['tag' || n % 13, 'tag' || n % 17 + 20],
       lpad(to_hex(n * 7919::bigint % 200003), 14, '0'),
       CASE WHEN n > 100000 AND n % 3 = 0 THEN n - 100000 END,
       1, now() - n * interval '1 second', now() - n * interval '1 second', CASE WHEN n % 50 = 7 THEN now() END
FROM generate_series(1, 200000) AS n
"""
SHARE = """
INSERT INTO engagements (name, version, created_at, updated_at)
SELECT 'x', 1, now(), now() FROM generate_series(1, 1000);
INSERT INTO engagement_members (engagement_id, user_id, role, joined_at)
SELECT id, 'member-' || (id * 20 + n) % 2000, 'editor', now() FROM engagements, generate_series(1, 20) AS n
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
TASKS_OF_ONE = 100
PAGES_OF_ONE = 15
"""Of the index of words: some levels for each beginning of a word, and a page or two of what begins so."""
LISTS = [
    "",
    "completed=false",
    "completed=true&offset=100",
    "priority=high",
    "priority=high&priority=low&completed=false&sort=-priority,due_at",
    "sort=due_at",
    "sort=-due_at",
    "completed=false&sort=due_at",
    "completed=false&sort=-priority,due_at",
    "sort=-priority,-due_at,title",
    "sort=priority,-updated_at",
    "sort=title",
    "sort=position",
    "sort=-position",
    "sort=updated_at&updated_since=2020-01-01T00:00:00Z",
    "due_after=2026-01-01T00:00:00Z&due_before=2030-01-01T00:00:00Z&sort=due_at",
    "overdue=true",
    "overdue=true&sort=due_at",
    "overdue=false&tag=tag3",
    "q=word1",
    "q=word1+more",
    "q=w",
    "q=word12&sort=due_at&completed=false",
    "tag=tag3",
    "tag=tag3&tag=tag22&tag_match=any&sort=-priority",
    "tag=tag3&tag=tag22&q=word",
    "parent_id=3",
    "top_level=true&sort=position",
]


@pytest.fixture(scope="module")
async def crowded_url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(FILL)
        await connection.execute(SHARE)
        for table in ("tasks", "engagements", "engagement_members"):
            await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.close()
        yield url


@pytest.fixture(scope="module")
async def crowded(crowded_url: str) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    app = create_app(settings_for(TaskApiSettings, crowded_url))
    async with serving(app) as client:
        yield app, client


@contextmanager
def statements_of(app: FastAPI) -> Iterator[list[tuple[str, tuple[object, ...]]]]:
    """Collect what requests send to PostgreSQL about tasks."""
    seen: list[tuple[str, tuple[object, ...]]] = []
    engine = app.state.database.engine.sync_engine

    def note(_c: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        task = asyncio.current_task()
        in_background = task is not None and not task.get_name().startswith("Task-")  # the purge, for example
        if "tasks" in statement and not in_background:
            seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def explanation(url: str, statement: str, parameters: tuple[object, ...], options: str = "COSTS") -> str:
    """Give PostgreSQL's plan of a statement, for these parameters, as JSON."""
    connection = await asyncpg.connect(url)
    try:
        explained: str = await connection.fetchval(f"EXPLAIN (FORMAT JSON, {options}) {statement}", *parameters)
    finally:
        await connection.close()
    return explained


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def asks_for_the_membership(node: dict[str, Any]) -> bool:
    """Tell whether a scan is the one that finds one member of one engagement, once for a statement."""
    in_members = node.get("Relation Name") == "engagement_members"
    return in_members and "engagement_id" in node["Index Cond"] and "user_id" in node["Index Cond"]


def served_by_an_index_of_the_owner(plan: dict[str, Any]) -> bool:
    """Tell whether each scan goes only through what an index says is the owner's (or a parent's)."""
    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"] and not asks_for_the_membership(node)]
    narrow = [
        re.search(r"owner_id = |parent_id = |task_words\(owner_id, search\) @@ ", node.get("Index Cond", ""))
        is not None
        for node in scans
        if node["Node Type"] != "Bitmap Heap Scan"
    ]
    return bool(narrow) and all(narrow) and not any(node["Node Type"] == "Seq Scan" for node in scans)


@pytest.mark.parametrize(("owner", "space"), [("owner-77", ""), ("big", ""), ("member-27", "&engagement_id=1")])
@pytest.mark.parametrize("query", LISTS)
async def test_every_list_is_served_by_an_index(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str, owner: str, space: str, query: str
) -> None:
    app, client = crowded
    with statements_of(app) as seen:
        address = f"{TASKS}?{query}&limit=20&total=true{space}"
        page = await client.get(address, headers=bearer(owner))
        assert page.status_code == 200, page.text
        assert len(seen) == 2, "one statement for the page, one for the total, whatever is on it"
        cursor = page.json()["next_cursor"]
        if cursor is not None:
            again = await client.get(f"{address}&cursor={cursor}", headers=bearer(owner))
            assert again.status_code == 200, again.text
    connection = await asyncpg.connect(crowded_url)
    try:
        await connection.execute(GENERIC_PLAN)
        for statement, parameters in seen:
            # As planned for these values, and as planned for any, which a prepared statement may change to.
            custom = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
            generic = await connection.fetchval("SELECT pg_temp.generic_plan($1)", statement)
            for explained in (custom, generic):
                plan = json.loads(explained)[0]["Plan"]
                assert served_by_an_index_of_the_owner(plan), json.dumps(plan, indent=1)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "tasks_owner_id_created_at_idx"),
        ("sort=due_at", "tasks_owner_id_due_idx"),
        ("sort=-due_at", "tasks_owner_id_due_idx"),
        ("completed=false&sort=due_at", "tasks_open_due_idx"),
        ("completed=false&sort=-priority,due_at", "tasks_open_urgency_idx"),
        ("sort=position", "tasks_owner_id_position_idx"),
        ("sort=-updated_at", "tasks_owner_id_updated_at_idx"),
        ("sort=title", "tasks_owner_id_title_idx"),
    ],
)
async def test_the_usual_orders_begin_at_the_cursor_and_sort_nothing(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str, query: str, index: str
) -> None:
    app, client = crowded
    page = await client.get(f"{TASKS}?{query}&limit=20", headers=bearer("big"))
    with statements_of(app) as seen:
        await client.get(f"{TASKS}?{query}&limit=20&cursor={page.json()['next_cursor']}", headers=bearer("big"))
    ((statement, parameters),) = seen
    explained = await explanation(crowded_url, statement, parameters)
    found = list(nodes(json.loads(explained)[0]["Plan"]))
    assert [node["Node Type"] for node in found] == ["Limit", "Index Scan"], explained
    assert found[1]["Index Name"] == index
    assert re.search("ROW", found[1]["Index Cond"]), "the scan begins where the page before ended"


SEARCHES = [
    "q=word12",
    "q=word1+more",
    "q=w&sort=due_at",
    "tag=tag3",
    "tag=tag3&tag=tag22&tag_match=any",
    "tag=tag3&q=word",
]


@pytest.mark.parametrize("query", SEARCHES)
async def test_a_search_reads_as_much_of_an_index_however_much_others_have(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str, query: str
) -> None:
    app, client = crowded
    with statements_of(app) as seen:
        page = await client.get(f"{TASKS}?{query}&limit=20", headers=bearer("owner-76"))
    assert page.json()["items"]
    ((statement, parameters),) = seen
    explained = await explanation(crowded_url, statement, parameters, "ANALYZE, BUFFERS, TIMING OFF")
    scans = [node for node in nodes(json.loads(explained)[0]["Plan"]) if node.get("Index Name") == "tasks_words_idx"]
    assert scans, explained
    mark = hashlib.md5(b"owner-76", usedforsecurity=False).hexdigest()[:8]
    for scan in scans:
        assert mark in scan["Index Cond"]
        assert scan["Actual Rows"] <= TASKS_OF_ONE, "nothing of others comes out of it"
        assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] <= PAGES_OF_ONE, explained


@pytest.mark.parametrize("owner", ["owner-76", "big"])
@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("q=word1", "search @@ 'word1:*'"),
    ("q=word1+more", "search @@ 'word1:* & more:*'"),
    ("q=TAG2", "search @@ 'tag2:*'"),
    ("tag=tag3", "'tag3' = ANY(tags)"),
    ("tag=tag3&tag=tag22&tag_match=any", "tags && '{tag3, tag22}'"),
    ("tag=tag3&tag=tag22&q=word", "tags @> '{tag3, tag22}' AND search @@ 'word:*'"),
])  # fmt: skip
async def test_a_search_counts_what_reading_every_task_counts(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str, owner: str, query: str, condition: str
) -> None:
    _, client = crowded
    page = await client.get(f"{TASKS}?{query}&limit=1&total=true", headers=bearer(owner))
    connection = await asyncpg.connect(crowded_url)
    try:
        await connection.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
        mine = f"SELECT count(*) FROM tasks WHERE owner_id = $1 AND deleted_at IS NULL AND {condition}"
        assert page.json()["total"] == await connection.fetchval(mine, owner) > 0
    finally:
        await connection.close()


async def test_a_task_in_an_engagement_is_reached_by_its_id_and_by_who_is_a_member(
    crowded: tuple[FastAPI, httpx2.AsyncClient], crowded_url: str
) -> None:
    app, client = crowded
    member = bearer("member-27")
    (task,) = (await client.get(f"{TASKS}?engagement_id=1&limit=1", headers=member)).json()["items"]
    with statements_of(app) as seen:
        assert (await client.get(f"{TASKS}/{task['id']}", headers=member)).status_code == 200
        assert (await client.patch(f"{TASKS}/{task['id']}", json={"title": "y"}, headers=member)).status_code == 200
    reads = [one for one in seen if one[0].startswith("SELECT")]
    assert len(reads) == 2
    for statement, parameters in reads:
        found = list(nodes(json.loads(await explanation(crowded_url, statement, parameters))[0]["Plan"]))
        names = {node["Index Name"] for node in found if "Index Name" in node}
        assert names == {"tasks_pkey", "engagement_members_user_id_engagement_id_idx"}, found
        assert not any(node["Node Type"] == "Seq Scan" for node in found), found
