"""Tasks out to a file and in again: what one user exports, another imports, and nothing is different."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from chassis.testing import PATIENCE, bearer
from devstack.polling import within
from task_api.engagements.spaces import Space
from task_api.portability.exporting import TaskExport

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
TYPES = {"json": "application/json", "csv": "text/csv"}
BOBS_IMPORT = BOB | {"Idempotency-Key": "import-1"}
NOT_KEPT = {"id", "parent_id", "updated_at", "position", "version"}


def document(*tasks: dict[str, Any]) -> bytes:
    return json.dumps({"format": "taskwire-tasks", "version": 1, "tasks": tasks}).encode()


async def send(
    client: httpx2.AsyncClient,
    content: bytes | AsyncIterator[bytes],
    form: str = "json",
    headers: dict[str, str] = BOBS_IMPORT,
) -> dict[str, Any]:
    response = await client.post(f"{TASKS}/import", content=content, headers=headers | {"Content-Type": TYPES[form]})
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    assert report["tasks"] == report["created"] + report["already_imported"] + report["failed"]
    return report


async def export(client: httpx2.AsyncClient, user: dict[str, str], form: str = "json") -> bytes:
    response = await client.get(f"{TASKS}/export?format={form}", headers=user)
    assert response.status_code == 200, response.text
    return response.content


async def create(client: httpx2.AsyncClient, user: dict[str, str] = ALICE, **fields: object) -> dict[str, Any]:
    response = await client.post(TASKS, json={"title": "task"} | fields, headers=user)
    assert response.status_code == 201, response.text
    task: dict[str, Any] = response.json()
    return task


async def listed(client: httpx2.AsyncClient, user: dict[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get(f"{TASKS}?sort=position&limit=100", headers=user)).json()["items"]
    return items


def content_of(exported: bytes) -> list[dict[str, Any]]:
    """What an export says, with references by place in the file instead of ids."""
    tasks = json.loads(exported)["tasks"]
    places = {task["id"]: place for place, task in enumerate(tasks)}
    return [
        {name: value for name, value in task.items() if name not in NOT_KEPT}
        | {"above": None if task["parent_id"] is None else places[task["parent_id"]]}
        for task in tasks
    ]


async def a_bit_of_everything(client: httpx2.AsyncClient) -> None:
    weekly = {"rule": "FREQ=WEEKLY;BYDAY=MO", "anchor": "due", "time_zone": "Europe/Paris"}
    await create(client, title="plants", due_at="2027-03-01T08:00:00Z", recurrence=weekly, tags=["home", "a, b\\c;d"])
    moved = await create(client, title="=1+1", description="line\r\nline\n\"quoted\", 'so'\r", priority="high")
    top = await create(client, title="👩‍👩‍👧 العنوان", tags=["ü"])
    child = await create(client, title="'=not a formula", parent_id=top["id"])
    await create(client, title="'single quote", parent_id=child["id"], priority="low")
    await create(client, title="-1", parent_id=top["id"], description="@home\tx")
    done = await create(client, title="done")
    await client.post(f"{TASKS}/{done['id']}/complete", headers=ALICE)
    gone = await create(client, title="gone")
    await client.delete(f"{TASKS}/{gone['id']}", headers=ALICE)
    await client.post(f"{TASKS}/{moved['id']}/move", json={"after": done["id"]}, headers=ALICE)


@pytest.mark.parametrize("form", ["json", "csv"])
async def test_what_one_user_exports_another_imports_and_exports_the_same(
    client: httpx2.AsyncClient, form: str
) -> None:
    await a_bit_of_everything(client)
    await create(client, BOB, title="bob's own")
    exported = await export(client, ALICE, form)
    report = await send(client, exported, form)
    assert (report["format"], report["created"], report["failed"]) == (form, 7, 0)
    mine, theirs = content_of(await export(client, ALICE)), content_of(await export(client, BOB))
    assert [task["title"] for task in mine][-2:] == ["done", "=1+1"]
    assert [task["above"] for task in mine] == [None, None, 1, 2, 1, None, None]
    assert theirs[0]["title"] == "bob's own"
    assert [task | {"above": task["above"] and task["above"] - 1} for task in theirs[1:]] == mine


@pytest.mark.parametrize("form", ["json", "csv"])
async def test_an_export_says_what_it_is_and_is_kept_by_nobody(client: httpx2.AsyncClient, form: str) -> None:
    await create(client)
    for query, accept in ((f"?format={form}", "*/*"), ("", TYPES[form])):
        response = await client.get(f"{TASKS}/export{query}", headers=ALICE | {"Accept": accept})
        assert response.headers["content-type"].split(";")[0] == TYPES[form]
        assert response.headers["content-disposition"].startswith('attachment; filename="taskwire-tasks-')
        assert response.headers["content-disposition"].endswith(f'.{form}"')
        assert response.headers["cache-control"] == "private, no-store"
    assert (await client.get(f"{TASKS}/export?format=xml", headers=ALICE)).status_code == 422
    assert (await client.get(f"{TASKS}/export")).status_code == 401


@pytest.mark.parametrize("form", ["json", "csv"])
async def test_an_export_of_nothing_is_a_file_that_can_be_imported(client: httpx2.AsyncClient, form: str) -> None:
    await create(client, ALICE)
    assert (await send(client, await export(client, BOB, form), form))["tasks"] == 0


async def test_json_has_a_task_on_each_line_and_csv_is_rfc_4180(client: httpx2.AsyncClient) -> None:
    await a_bit_of_everything(client)
    lines = (await export(client, ALICE)).decode().split("\n")
    assert [json.loads(line.removesuffix(","))["title"] for line in lines[1:-2]][-1] == "=1+1"
    assert json.loads(lines[0] + "]}")["version"] == 1
    exported = await export(client, ALICE, "csv")
    rows = list(csv.DictReader(io.StringIO(exported.decode(), newline=""), strict=True))
    assert exported.startswith(b"id,parent_id,title,")
    assert exported.endswith(b"\r\n")
    assert rows[-1]["description"] == "line\r\nline\n\"quoted\", 'so'\r"


async def test_no_cell_of_csv_is_a_formula(client: httpx2.AsyncClient) -> None:
    texts = ["=cmd|' /C calc'!A0", "+1", "-1", "@sum", "\t=1", "\r=1", "'=1", "\uff1d1", "'quoted'", "plain"]
    for one in texts:
        await create(client, title="x", description=one, tags=[one.strip().lower()])
    rows = list(csv.DictReader(io.StringIO((await export(client, ALICE, "csv")).decode(), newline="")))
    for row in rows:
        assert not any(cell.startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")) for cell in row.values())
    assert [row["description"] for row in rows][-4:] == ["''=1", "'\uff1d1", "'quoted'", "plain"]


async def test_nothing_of_other_users_and_nothing_deleted_is_exported(client: httpx2.AsyncClient) -> None:
    await create(client, BOB, title="bob's")
    top = await create(client, title="gone")
    await create(client, title="below", parent_id=top["id"])
    await client.delete(f"{TASKS}/{top['id']}", headers=ALICE)
    kept = await create(client, title="kept")
    assert [task["id"] for task in json.loads(await export(client, ALICE))["tasks"]] == [kept["id"]]


async def test_what_changes_during_an_export_is_there_once_and_as_it_was_placed(
    app: FastAPI, client: httpx2.AsyncClient
) -> None:
    for number in range(3):
        await create(client, title=f"task {number}")
    first, second, third = await listed(client, ALICE)
    child = await create(client, title="child", parent_id=second["id"])
    export_: TaskExport = app.state.task_export
    pieces = await export_.begin(Space("alice"), "json")
    await client.post(f"{TASKS}/{third['id']}/move", json={"before": first["id"]}, headers=ALICE)
    await client.patch(f"{TASKS}/{child['id']}", json={"parent_id": None}, headers=ALICE)
    await client.patch(f"{TASKS}/{first['id']}", json={"title": "changed"}, headers=ALICE)
    await client.delete(f"{TASKS}/{second['id']}", headers=ALICE)
    await create(client, title="too late")
    tasks = json.loads(b"".join([piece async for piece in pieces]))["tasks"]
    assert [(task["title"], task["parent_id"]) for task in tasks] == [
        ("changed", None),
        ("child", None),
        ("task 2", None),
    ]


async def test_a_slow_reader_of_an_export_holds_no_connection(app: FastAPI, client: httpx2.AsyncClient) -> None:
    await create(client)
    export_: TaskExport = app.state.task_export
    pool = app.state.database.engine.pool
    pieces = await export_.begin(Space("alice"), "csv")

    async def none_is_held() -> bool:  # but what the background takes for a moment
        return bool(pool.checkedout() == 0)

    async for _ in pieces:
        assert await within(PATIENCE, none_is_held, 0.01)


async def test_an_export_that_cannot_be_finished_breaks_off_and_does_not_look_whole(
    app: FastAPI, client: httpx2.AsyncClient
) -> None:
    await create(client)
    export_: TaskExport = app.state.task_export
    pieces = await export_.begin(Space("alice"), "json")
    got = await anext(pieces)
    async with app.state.database.session() as session:
        connection = await session.connection()
        await connection.execute(text("ALTER TABLE tasks RENAME TO gone"))
        await session.commit()
    with pytest.raises(ProgrammingError):
        got += b"".join([piece async for piece in pieces])
    with pytest.raises(json.JSONDecodeError):
        json.loads(got)
