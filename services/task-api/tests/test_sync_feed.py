"""The feed of changes as a client that keeps a copy follows it."""

import asyncio
import random
import string
import time
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from chassis.database import Database
from chassis.migrations import downgrade, upgrade
from chassis.testing import bearer, serving
from task_api.app import create_app
from task_api.settings import TaskApiSettings

TASKS, CHANGES = "/api/v1/tasks", "/api/v1/tasks/changes"
ALICE, BOB = bearer("alice"), bearer("bob")
Json = dict[str, Any]


class Copy:
    """A client's copy of its tasks, kept by the feed alone."""

    def __init__(self, client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, limit: int = 100) -> None:
        self._client, self._headers, self._limit = client, headers, limit
        self.cursor: str | None = None
        self.tasks: dict[int, Json] = {}
        self.told: list[tuple[int, int]] = []

    async def pull(self) -> Json:
        query: Json = {"limit": self._limit} | ({"cursor": self.cursor} if self.cursor else {})
        response = await self._client.get(CHANGES, params=query, headers=self._headers)
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        for change in answer["items"]:
            self.told.append((change["id"], change["version"]))
            assert (change["task"] is None) == (change["deleted_at"] is not None)
            if change["task"] is None:
                self.tasks.pop(change["id"], None)
            else:
                self.tasks[change["id"]] = change["task"]
        assert len({change["id"] for change in answer["items"]}) == len(answer["items"])
        self.cursor = answer["next_cursor"]
        return answer

    async def catch_up(self) -> "Copy":
        while (await self.pull())["has_more"]:
            pass
        return self


async def create(client: httpx2.AsyncClient, title: str = "x", headers: dict[str, str] = ALICE) -> Json:
    response = await client.post(TASKS, json={"title": title}, headers=headers)
    assert response.status_code == 201, response.text
    task: Json = response.json()
    return task


async def patch(client: httpx2.AsyncClient, task: Json, title: str) -> Json:
    response = await client.patch(f"{TASKS}/{task['id']}", json={"title": title}, headers=ALICE)
    assert response.status_code == 200, response.text
    changed: Json = response.json()
    return changed


async def delete(client: httpx2.AsyncClient, task: Json) -> None:
    assert (await client.delete(f"{TASKS}/{task['id']}", headers=ALICE)).status_code == 204


async def everything(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE) -> dict[int, Json]:
    response = await client.get(TASKS, params={"limit": 200}, headers=headers)
    assert response.json()["next_cursor"] is None
    return {task["id"]: task for task in response.json()["items"]}


async def test_without_a_cursor_one_gets_all_there_is_and_then_only_what_changes(client: httpx2.AsyncClient) -> None:
    first, second, third = [await create(client, title) for title in "abc"]
    await create(client, headers=BOB)
    copy = Copy(client)
    answer = await copy.pull()
    assert (copy.tasks, answer["has_more"]) == ({task["id"]: task for task in (first, second, third)}, False)
    assert (await copy.pull())["items"] == []

    changed = await patch(client, second, "B")
    await delete(client, first)
    items = (await copy.pull())["items"]
    assert [(item["id"], item["version"], item["task"]) for item in items] == [
        (second["id"], 2, changed),
        (first["id"], 2, None),
    ]
    assert copy.tasks == await everything(client)
    assert (await copy.pull())["items"] == []


async def test_a_task_that_changed_often_is_told_once_as_it_is_now(client: httpx2.AsyncClient) -> None:
    copy = await Copy(client).catch_up()
    task = await create(client)
    for number in range(5):
        task = await patch(client, task, f"title {number}")
    assert [item["task"] for item in (await copy.pull())["items"]] == [task]


async def test_pages_are_stable_while_others_write(client: httpx2.AsyncClient) -> None:
    tasks = [await create(client, f"{number}") for number in range(10)]
    copy = Copy(client, limit=3)
    assert (await copy.pull())["has_more"]
    await patch(client, tasks[0], "was told, changes")
    await patch(client, tasks[9], "was not told, changes")
    await delete(client, tasks[1])  # was told
    await delete(client, tasks[8])  # was not
    await create(client, "new")
    await create(client, headers=BOB)
    assert (await copy.catch_up()).tasks == await everything(client)
    assert all(copy.told.count(change) == 1 for change in copy.told)


async def test_a_full_sync_leaves_out_what_was_deleted_before_it_began(client: httpx2.AsyncClient) -> None:
    gone, kept = await create(client), await create(client)
    await delete(client, gone)
    copy = await Copy(client, limit=1).catch_up()
    assert copy.told == [(kept["id"], 1)]


async def test_a_transaction_that_is_held_open_delays_its_change_and_loses_nothing(
    client: httpx2.AsyncClient, database_url: str
) -> None:
    slow = await create(client, "slow")
    copy = await Copy(client).catch_up()
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE tasks SET title = 'late', version = 2 WHERE id = $1", slow["id"])
            after = [await create(client, f"after {number}") for number in range(3)]
            assert (await copy.pull())["items"] == []  # they come after one that is not there yet
        items = (await copy.pull())["items"]
        assert [item["id"] for item in items] == [slow["id"], *(task["id"] for task in after)]
        assert (await copy.catch_up()).tasks == await everything(client)
    finally:
        await connection.close()


async def test_a_full_sync_during_a_held_open_transaction_leaves_no_hole(
    client: httpx2.AsyncClient, database_url: str
) -> None:
    before = [await create(client, f"{number}") for number in range(3)]
    connection = await asyncpg.connect(database_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE tasks SET deleted_at = now(), version = 2 WHERE id = $1", before[0]["id"])
        await create(client, "while it is open")
        copy = await Copy(client, limit=2).catch_up()
        assert set(copy.tasks) == {task["id"] for task in before}
        await transaction.commit()
    finally:
        await connection.close()
    assert (await copy.catch_up()).tasks == await everything(client)


@pytest.mark.parametrize("seed", range(4))
async def test_who_follows_the_feed_ends_with_what_the_server_has_however_commits_interleave(
    client: httpx2.AsyncClient, database_url: str, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311
    copies = [Copy(client, limit=limit) for limit in (1, 3, 100)]
    pool = await asyncpg.create_pool(database_url, min_size=4, max_size=4)
    open_ones: list[tuple[asyncpg.pool.PoolConnectionProxy[Any], Any, set[int]]] = []
    ids = [(await create(client, "seed"))["id"] for _ in range(6)]
    skipped = 0

    async def begin() -> None:
        connection = await pool.acquire()
        transaction = connection.transaction()
        await transaction.start()
        open_ones.append((connection, transaction, set()))

    async def change() -> None:
        connection, _, touched = dice.choice(open_ones)
        taken = {task_id for other, _, theirs in open_ones if other is not connection for task_id in theirs}
        free = [task_id for task_id in ids if task_id not in taken]
        if not free or dice.random() < 0.2:
            await connection.execute(
                "INSERT INTO tasks (owner_id, title, priority, completed, version, created_at, updated_at)"
                " VALUES ('alice', 'new', 'low', false, 1, now(), now())"
            )
            return
        touched.add(task_id := dice.choice(free))
        gone = "now()" if dice.random() < 0.3 else "NULL"
        await connection.execute(
            f"UPDATE tasks SET version = version + 1, title = $2, deleted_at = {gone} WHERE id = $1",
            task_id,
            str(dice.random()),
        )

    async def finish() -> None:
        connection, transaction, _ = open_ones.pop(dice.randrange(len(open_ones)))
        await (transaction.commit() if dice.random() < 0.8 else transaction.rollback())
        await pool.release(connection)

    try:
        for _ in range(150):
            choices = [begin] if len(open_ones) < 4 else []
            choices += [change] * 4 + [finish] if open_ones else []
            await dice.choice(choices)()
            if dice.random() < 0.5:
                copy = dice.choice(copies)
                await copy.pull()
                skipped += bool(open_ones)
        while open_ones:
            await finish()
    finally:
        await pool.close()
    assert skipped > 10, "the feed was hardly read while transactions were open"
    there = await everything(client)
    for copy in copies:
        assert (await copy.catch_up()).tasks == there


async def test_changes_by_many_requests_at_once_are_all_told(client: httpx2.AsyncClient) -> None:
    copy = Copy(client, limit=5)

    async def write(number: int) -> None:
        for turn in range(3):
            task = await create(client, f"{number} {turn}")
            await patch(client, task, "again")
            if turn == 0:
                await delete(client, task)

    writers = asyncio.gather(*(write(number) for number in range(8)))
    while not writers.done():
        await copy.pull()
    await writers
    assert (await copy.catch_up()).tasks == await everything(client)


def altered(cursor: str) -> list[str]:
    flipped = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    # The last character has bits to spare: another one may stand for the same bytes.
    twins = [cursor[:-1] + last for last in string.ascii_letters + string.digits + "-_" if last != cursor[-1]]
    return [
        *flipped,
        *twins,
        cursor + "=",
        cursor + "A",
        cursor[:-1],
        "",
        "x",
        "=",
        "é",
        "\x00",
        "eyJhZnRlciI6IDd9",
        "A" * 128,
    ]


async def test_a_forged_cursor_and_another_users_are_refused(client: httpx2.AsyncClient) -> None:
    cursor = (await Copy(client).catch_up()).cursor
    assert cursor is not None
    bobs = (await Copy(client, BOB).catch_up()).cursor
    for forged in [*altered(cursor), bobs]:
        response = await client.get(CHANGES, params={"cursor": forged}, headers=ALICE)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor"), forged
        assert response.json()["errors"][0]["field"] == "query.cursor"
    long = await client.get(CHANGES, params={"cursor": "A" * 129}, headers=ALICE)
    assert (long.status_code, long.json()["code"]) == (422, "validation_error")


async def test_a_cursor_that_is_too_old_to_know_all_tombstones_is_expired(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = await Copy(client).catch_up()
    now = time.time()
    monkeypatch.setattr("task_api.sync.service.time.time", lambda: now + 29 * 86400)
    assert (await client.get(CHANGES, params={"cursor": copy.cursor}, headers=ALICE)).status_code == 200
    monkeypatch.setattr("task_api.sync.service.time.time", lambda: now + 31 * 86400)
    response = await client.get(CHANGES, params={"cursor": copy.cursor}, headers=ALICE)
    assert (response.status_code, response.json()["code"]) == (410, "cursor_expired")


async def test_after_a_restore_from_a_dump_old_cursors_are_expired_and_a_full_sync_finds_everything(
    client: httpx2.AsyncClient, database_url: str
) -> None:
    task = await create(client)
    copy = await Copy(client).catch_up()
    connection = await asyncpg.connect(database_url)
    try:  # what pg_restore does: a new table, filled before it has its triggers, with ids of another server
        async with connection.transaction():
            await connection.execute("CREATE TABLE restored (LIKE tasks INCLUDING ALL)")
            columns = await connection.fetchval(
                """
                SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
                WHERE attrelid = 'tasks'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
                """
            )
            copying = f"INSERT INTO restored ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM tasks"
            await connection.execute(copying)
            await connection.execute("UPDATE restored SET changed_xid = 1000000000000")
            await connection.execute("DROP TABLE tasks CASCADE")  # the foreign keys that point to it go too
            await connection.execute("ALTER TABLE restored RENAME TO tasks")
            await connection.execute(
                "CREATE TRIGGER tasks_note_change BEFORE INSERT OR UPDATE ON tasks"
                " FOR EACH ROW EXECUTE FUNCTION tasks_note_change()"
            )
    finally:
        await connection.close()
    response = await client.get(CHANGES, params={"cursor": copy.cursor}, headers=ALICE)
    assert (response.status_code, response.json()["code"]) == (410, "cursor_expired")
    again = await Copy(client).catch_up()
    assert again.tasks == {task["id"]: task}
    await patch(client, task, "after the restore")
    assert [item["version"] for item in (await again.pull())["items"]] == [2]


async def test_a_cursor_from_before_a_downgrade_misses_nothing_after_the_next_upgrade(
    client: httpx2.AsyncClient, database_url: str
) -> None:
    task = await create(client)
    copy = await Copy(client).catch_up()
    await asyncio.to_thread(downgrade, "task_api", database_url, "0001")
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE tasks SET title = 'meanwhile', version = 2")
    await connection.close()
    await asyncio.to_thread(upgrade, "task_api", database_url)
    assert [(item["id"], item["version"]) for item in (await copy.pull())["items"]] == [(task["id"], 2)]


async def test_a_page_is_one_statement_however_long_it_is(client: httpx2.AsyncClient, app: FastAPI) -> None:
    for number in range(30):
        await create(client, f"{number}")
    database: Database = app.state.database
    statements: list[str] = []
    sync_engine = database.engine.sync_engine

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        task = asyncio.current_task()
        if task is None or task.get_name().startswith("Task-"):  # what goes on in the background has a name
            statements.append(statement)

    event.listen(sync_engine, "before_cursor_execute", note)
    copy = Copy(client, limit=25)
    await copy.pull()
    assert [statement.split()[0] for statement in statements if "tasks" in statement] == ["UPDATE", "SELECT"]
    statements.clear()
    await copy.pull()
    assert [statement.split()[0] for statement in statements if "tasks" in statement] == ["SELECT"]


async def test_a_cursor_of_one_replica_is_good_at_another(
    client: httpx2.AsyncClient, settings: TaskApiSettings
) -> None:
    await create(client)
    copy = await Copy(client).catch_up()
    async with serving(create_app(settings)) as other:
        copy._client = other
        assert (await copy.pull())["items"] == []
