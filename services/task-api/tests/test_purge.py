"""What was deleted long ago goes for good, with all that belongs to it, and nothing else does."""

from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError
from sqlalchemy import text

from chassis.database import Database
from chassis.testing import PATIENCE, bearer, scrape, serving, settings_for
from devstack.polling import within
from task_api.app import create_app
from task_api.purge.service import Purge
from task_api.settings import TaskApiSettings
from task_api.tasks.retention import Retention

TASKS = "/api/v1/tasks"
ALICE = bearer("alice")
RETENTION = 60
TABLES = ("tasks", "comments", "completions", "outbox")


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


async def test_a_task_goes_with_its_comments_and_history_and_others_stay(
    client: httpx2.AsyncClient, database: Database
) -> None:
    old, young, alive = [await deleted_task(client, delete=delete) for delete in (True, True, False)]
    await everything_left(database)
    await age(database, RETENTION + 1, old)
    await age(database, RETENTION - 1, young)
    assert await purge(database) == {"comments": 2, "completions": 2, "tasks": 1}
    assert await ids(database) == [young, alive]
    assert await counts(database) == {"tasks": 2, "comments": 4, "completions": 4, "outbox": 0}
    assert await purge(database) == {}
    assert (await client.post(f"{TASKS}/{young}/restore", headers=ALICE)).status_code == 200
    assert len((await client.get(f"{TASKS}/{young}/comments", headers=ALICE)).json()["items"]) == 2


async def test_an_id_is_not_used_again(client: httpx2.AsyncClient, database: Database) -> None:
    old = await deleted_task(client)
    await everything_left(database)
    await age(database, RETENTION + 1)
    await purge(database)
    assert await deleted_task(client) > old


async def test_after_the_retention_a_task_is_gone_whether_the_purge_has_come_or_not(
    client: httpx2.AsyncClient, database: Database
) -> None:
    old, held = await deleted_task(client), await deleted_task(client)
    await age(database, RETENTION, old)
    await age(database, RETENTION - 0.01, held)
    for purged in (False, True):
        answer = await client.post(f"{TASKS}/{old}/restore", headers=ALICE)
        assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found"), purged
        operations = [{"op": "restore", "id": old}, {"op": "restore", "id": held}]
        results = (await client.post(f"{TASKS}/bulk", json={"operations": operations}, headers=ALICE)).json()["results"]
        assert [result["status"] for result in results] == [404, 200]
        assert results[0]["error"]["code"] == "task_not_found"
        await everything_left(database)
        assert await purge(database) == {}, "not in the same hour"
        await age(database, RETENTION + 1)
        await purge(database)
    assert await ids(database) == [held]


async def test_a_task_stays_while_its_events_wait(client: httpx2.AsyncClient, database: Database) -> None:
    first, second = await deleted_task(client), await deleted_task(client)
    await age(database, RETENTION + 1)
    assert await purge(database) == {}
    await execute(database, "DELETE FROM outbox WHERE aggregate_id = :id", id=first)
    await execute(database, "DELETE FROM outbox WHERE type <> 'task.deleted'")
    assert (await purge(database))["tasks"] == 1
    assert await ids(database) == [second]
    assert (await counts(database))["comments"] == 2
    await everything_left(database)
    assert (await purge(database))["tasks"] == 1


async def test_a_tree_goes_from_below_and_never_a_task_above_one_that_stays(
    client: httpx2.AsyncClient, database: Database
) -> None:
    line = [await deleted_task(client, delete=False)]
    for _ in range(4):
        line.append(await deleted_task(client, parent_id=line[-1], delete=False))
    aside = await deleted_task(client, parent_id=line[0], delete=False)
    await client.delete(f"{TASKS}/{line[0]}", headers=ALICE)
    await age(database, RETENTION + 1)
    await execute(database, "DELETE FROM outbox WHERE aggregate_id <> :id", id=line[3])
    assert (await purge(database))["tasks"] == 2, "the lowest, and the one aside"
    assert await ids(database) == line[:4]
    await everything_left(database)
    assert (await purge(database))["tasks"] == 4
    assert await counts(database) == dict.fromkeys(TABLES, 0)
    assert aside


async def test_a_subtask_that_was_restored_alone_outlives_the_task_above(
    client: httpx2.AsyncClient, database: Database
) -> None:
    above = await deleted_task(client, delete=False)
    below = await deleted_task(client, parent_id=above, delete=False)
    await client.delete(f"{TASKS}/{above}", headers=ALICE)
    await client.post(f"{TASKS}/{below}/restore", headers=ALICE)
    await everything_left(database)
    await age(database, RETENTION + 1)
    assert (await purge(database))["tasks"] == 1
    assert await ids(database) == [below]
    assert (await counts(database))["comments"] == 2


async def test_the_history_of_a_recurring_task_survives_the_first_of_them(
    client: httpx2.AsyncClient, database: Database
) -> None:
    recurrence = {"rule": "FREQ=DAILY", "anchor": "completion"}
    line = [(await client.post(TASKS, json={"title": "x", "recurrence": recurrence}, headers=ALICE)).json()["id"]]
    for _ in range(3):
        await client.post(f"{TASKS}/{line[-1]}/complete", headers=ALICE)
        line.append((await client.get(f"{TASKS}?completed=false", headers=ALICE)).json()["items"][0]["id"])
    await client.delete(f"{TASKS}/{line[0]}", headers=ALICE)
    await everything_left(database)
    await age(database, RETENTION + 1)
    await purge(database)
    told = (await client.get(f"{TASKS}/{line[3]}/completions", headers=ALICE)).json()["items"]
    assert [item["task_id"] for item in told] == [line[2], line[1]]


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


async def test_however_much_there_is_it_goes_in_parts(database: Database) -> None:
    await many(database, 450, 3, 2)
    await many(database, 2, 2600, 1000)
    assert await purge(database) == {"tasks": 452, "completions": 450 * 3 + 5200, "comments": 450 * 2 + 2000}
    assert await counts(database) == dict.fromkeys(TABLES, 0)


async def test_a_running_service_purges_by_itself_and_counts_what_went(
    settings: TaskApiSettings, database: Database
) -> None:
    await many(database, 3, 1, 2)

    async def purged() -> bool:
        return not await ids(database)

    before = REGISTRY.get_sample_value("taskwire_purged_rows_total", {"table": "comments"}) or 0
    async with serving(create_app(settings)) as client:
        assert await within(PATIENCE, purged, 0.05)

        async def counted() -> bool:
            return await scrape(client, "taskwire_purged_rows_total", table="comments") == before + 6

        assert await within(PATIENCE, counted, 0.05)


async def test_who_may_still_ask_for_tombstones_gets_them_after_a_purge(database_url: str, database: Database) -> None:
    settings = settings_for(TaskApiSettings, database_url, sync_cursor_days=29, task_retention_days=30)
    async with serving(create_app(settings)) as client:
        cursor = (await client.get(f"{TASKS}/changes", headers=ALICE)).json()["next_cursor"]
        task_id = await deleted_task(client)
        await everything_left(database)
        await age(database, 29)
        assert await purge(database, days=30) == {}
        items = (await client.get(f"{TASKS}/changes?cursor={cursor}", headers=ALICE)).json()["items"]
        assert [(item["id"], item["task"]) for item in items] == [(task_id, None)]


@pytest.mark.parametrize("retention", [29, 30])
def test_a_retention_that_is_no_longer_than_cursors_hold_is_refused(retention: int) -> None:
    with pytest.raises(ValidationError) as refused:
        settings_for(TaskApiSettings, sync_cursor_days=30, task_retention_days=retention)
    assert "TASKWIRE_TASK_RETENTION_DAYS must be more than TASKWIRE_SYNC_CURSOR_DAYS" in str(refused.value)
    assert settings_for(TaskApiSettings, sync_cursor_days=30, task_retention_days=31).task_retention_days == 31
