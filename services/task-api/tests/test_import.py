"""Importing: what becomes of each row, what is told, and that a file sent again makes nothing twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlmodel import select
from starlette.requests import ClientDisconnect

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent
from task_events import TaskEventData, TaskEventType

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
FIRST, SECOND = {"Idempotency-Key": "first"}, {"Idempotency-Key": "second"}
SentStatements = Callable[[], AbstractContextManager[list[str]]]


def document(*tasks: dict[str, Any]) -> bytes:
    return json.dumps({"format": "taskwire-tasks", "version": 1, "tasks": tasks}).encode()


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": number, "title": f"task {number}"} for number in range(count)]


async def send(
    client: httpx2.AsyncClient,
    content: bytes | AsyncIterator[bytes],
    headers: dict[str, str] = FIRST,
    *,
    form: str = "application/json",
    query: str = "",
    user: dict[str, str] = ALICE,
) -> dict[str, Any]:
    headers = user | headers | {"Content-Type": form}
    response = await client.post(f"{TASKS}/import{query}", content=content, headers=headers)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    assert report["tasks"] == report["created"] + report["already_imported"] + report["failed"]
    return report


def counts(report: dict[str, Any]) -> tuple[int, int, int]:
    return report["created"], report["already_imported"], report["failed"]


async def listed(client: httpx2.AsyncClient, user: dict[str, str] = ALICE) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get(f"{TASKS}?sort=position&limit=100", headers=user)).json()["items"]
    return items


async def events_in(database: Database) -> list[OutboxEvent]:
    async with database.session() as session:
        return list((await session.exec(select(OutboxEvent).order_by("aggregate_id"))).all())


async def test_every_task_is_told_in_an_event_with_all_that_it_says(
    client: httpx2.AsyncClient, database: Database
) -> None:
    done = {"completed": True, "completed_at": "2026-05-01T10:00:00Z", "created_at": "2026-04-01T10:00:00Z"}
    await send(client, document({"id": "a", "title": " A ", "tags": ["X"], **done}, {"parent_id": "a", "title": "b"}))
    events = await events_in(database)
    told = [TaskEventData.model_validate(event.payload) for event in events]
    assert [(event.type, event.aggregate_version) for event in events] == [(TaskEventType.CREATED, 1)] * 2
    assert [(data.task.title, data.task.completed, data.actor.id) for data in told] == [
        ("A", True, "alice"),
        ("b", False, "alice"),
    ]
    assert told[1].task.parent_id == told[0].task.id
    first, second = await listed(client)
    assert [data.task.id for data in told] == [first["id"], second["id"]]
    assert (first["completed_at"], first["created_at"]) == ("2026-05-01T10:00:00Z", "2026-04-01T10:00:00Z")
    assert first["tags"] == ["x"]


async def test_tasks_have_the_order_of_the_file_and_come_after_those_that_are_there(
    client: httpx2.AsyncClient,
) -> None:
    await client.post(TASKS, json={"title": "here before"}, headers=ALICE)
    titles = [f"{number:02}" for number in range(60)]
    await send(client, document(*({"title": title} for title in titles)))
    found = await listed(client)
    assert [task["title"] for task in found] == ["here before", *titles]
    assert len({task["position"] for task in found}) == len(found)


async def test_a_refused_row_changes_nothing_and_the_others_are_imported(client: httpx2.AsyncClient) -> None:
    report = await send(
        client,
        b'{"format": "taskwire-tasks", "version": 1, "tasks": [\n'
        b'{"id": 1, "title": "fine"},\n'
        b'{"id": 2, "title": ""},\n'
        b'{"id": 3, "title": "x", "colour": "red"},\n'
        b'{"id": 4, "title": "x", "due_at": "tomorrow", "completed_at": "2026-01-01T00:00:00Z"},\n'
        b'{"id": 5, "title": "x", completed: yes},\n'
        b'{"id": 6, "title": "fine, too"}\n]}',
    )
    assert counts(report) == (2, 0, 4)
    assert [(one["line"], one["id"], one["code"]) for one in report["problems"]] == [
        (3, "2", "validation_error"),
        (4, "3", "validation_error"),
        (5, "4", "validation_error"),
        (6, None, "validation_error"),
    ]
    assert report["problems"][0]["errors"] == [{"field": "title", "message": "String should have at least 1 character"}]
    assert report["problems"][3]["detail"] == "not valid JSON"
    assert [task["title"] for task in await listed(client)] == ["fine", "fine, too"]


async def test_only_so_many_problems_are_named_and_all_are_counted(client: httpx2.AsyncClient) -> None:
    report = await send(client, document(*({"title": ""} for _ in range(130))))
    assert (report["failed"], len(report["problems"])) == (130, 100)


async def test_a_dry_run_says_the_same_and_writes_nothing(client: httpx2.AsyncClient, database: Database) -> None:
    content = document({"title": "a"}, {"title": ""}, {"title": "b", "parent_id": 9})
    tried = await send(client, content, {}, query="?dry_run=true")
    assert await listed(client) == []
    assert await events_in(database) == []
    assert tried == await send(client, content) | {"dry_run": True}
    assert counts(tried) == (1, 0, 2)


async def test_without_a_key_nothing_is_imported(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        f"{TASKS}/import", content=document({"title": "a"}), headers=ALICE | {"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "header.Idempotency-Key"
    assert await listed(client) == []


async def test_a_file_sent_again_under_its_key_makes_nothing_twice(
    client: httpx2.AsyncClient, database: Database
) -> None:
    content = document({"id": 1, "title": "a"}, {"title": "no id"}, {"id": 3, "parent_id": 3, "title": "bad"})
    assert counts(await send(client, content)) == (2, 0, 1)
    assert counts(await send(client, content)) == (0, 2, 1)
    assert len(await events_in(database)) == len(await listed(client)) == 2
    assert counts(await send(client, content, SECOND)) == (2, 0, 1)
    assert counts(await send(client, content, user=BOB)) == (2, 0, 1)
    assert len(await listed(client)) == 4


async def test_what_was_corrected_is_imported_when_the_file_is_sent_again(client: httpx2.AsyncClient) -> None:
    wrong = [{"id": 1, "title": ""}, {"id": 2, "parent_id": 1, "title": "below"}, {"id": 3, "title": "c"}]
    report = await send(client, document(*wrong))
    assert counts(report) == (1, 0, 2)
    assert report["problems"][1]["detail"] == "parent_id names a task that was refused"
    wrong[0]["title"] = "right"
    assert counts(await send(client, document(*wrong))) == (2, 1, 0)
    third, first, second = await listed(client)
    assert (first["title"], second["parent_id"], third["title"]) == ("right", first["id"], "c")


async def test_an_upload_that_broke_off_is_finished_by_sending_it_again(
    client: httpx2.AsyncClient, database: Database
) -> None:
    content = document(*rows(1_400))

    async def breaking_off() -> AsyncIterator[bytes]:
        yield content[: len(content) - len(content) // 4]
        raise ClientDisconnect

    headers = ALICE | FIRST | {"Content-Type": "application/json"}
    response = await client.post(f"{TASKS}/import", content=breaking_off(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "upload_broken_off")
    assert len(await events_in(database)) == 1_000
    assert counts(await send(client, content)) == (400, 1_000, 0)
    events = await events_in(database)
    titles = [TaskEventData.model_validate(event.payload).task.title for event in events]
    assert sorted(titles) == sorted(row["title"] for row in rows(1_400))


@pytest.mark.parametrize("header", ["title", "TYPE,CONTENT"])
async def test_a_row_that_could_not_be_read_can_be_corrected_without_doubling_the_others(
    client: httpx2.AsyncClient, header: str
) -> None:
    start = "" if header == "title" else "task,"
    wrong = f'{header}\r\n{start}a\r\n{start}"b"b\r\n{start}c\r\n'
    assert counts(await send(client, wrong.encode(), form="text/csv")) == (2, 0, 1)
    assert counts(await send(client, wrong.replace('"b"b', "b").encode(), form="text/csv")) == (1, 2, 0)
    assert sorted(task["title"] for task in await listed(client)) == ["a", "b", "c"]


async def test_two_uploads_at_once_under_one_key_make_each_task_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    content = document(*rows(1_200))
    reports = await asyncio.gather(send(client, content), send(client, content))
    assert sum(report["created"] for report in reports) == 1_200
    assert len(await events_in(database)) == 1_200


async def test_what_happened_to_a_tree_since_is_respected_when_a_file_is_sent_again(client: httpx2.AsyncClient) -> None:
    tops = [{"id": name, "title": name} for name in ("full", "deep", "gone")]
    await send(client, document(*tops))
    full, deep, gone = [task["id"] for task in await listed(client)]
    filling = [{"op": "create", "task": {"title": "x", "parent_id": full}} for _ in range(498)]
    assert (await client.post(f"{TASKS}/bulk", json={"operations": filling}, headers=ALICE)).json()["failed"] == 0
    line = [{"id": number, "title": "line", "parent_id": number - 1 or None} for number in range(1, 4)]
    await send(client, document(*line), SECOND)
    end = (await client.get(f"{TASKS}?q=line&sort=-position&limit=1", headers=ALICE)).json()["items"][0]["id"]
    await client.patch(f"{TASKS}/{deep}", json={"parent_id": end}, headers=ALICE)
    await client.delete(f"{TASKS}/{gone}", headers=ALICE)
    below = [
        [{"id": "a", "title": "fits", "parent_id": "full"}],
        [{"id": "b", "title": "x", "parent_id": "deep"}, {"id": "c", "title": "x", "parent_id": "b"}],
        [{"id": "d", "title": "x", "parent_id": "gone"}, {"id": "e", "title": "x", "parent_id": "d"}],
    ]
    report = await send(client, document(*(row for top, some in zip(tops, below, strict=True) for row in [top, *some])))
    assert counts(report) == (1, 3, 4)
    assert [(one["id"], one["detail"]) for one in report["problems"]] == [
        ("b", "parent_id would nest tasks more than 5 levels deep"),
        ("c", "parent_id would nest tasks more than 5 levels deep"),
        ("d", "parent_id must be the id of an own task"),
        ("e", "parent_id must be the id of an own task"),
    ]
    more = [tops[0], *below[0], {"id": "f", "title": "one too many", "parent_id": "full"}]
    assert (await send(client, document(*more)))["problems"][0]["detail"] == (
        "parent_id would make a tree of more than 500 tasks"
    )


async def test_a_row_that_is_in_a_file_twice_is_one_task(client: httpx2.AsyncClient) -> None:
    same = {"id": 7, "title": "same"}
    assert counts(await send(client, document(same, same, {"parent_id": 7, "title": "below"}))) == (2, 1, 0)
    top, below = await listed(client)
    assert below["parent_id"] == top["id"]


async def test_when_its_time_is_over_a_key_is_forgotten(
    app: FastAPI, client: httpx2.AsyncClient, database: Database
) -> None:

    await send(client, document({"id": 1, "title": "a"}))
    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(text("UPDATE import_rows SET expires_at = now() - interval '1 second'"))
        await session.commit()
    assert counts(await send(client, document({"id": 1, "title": "a"}, {"id": 2, "title": "b"}))) == (2, 0, 0)
    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(text("UPDATE import_rows SET expires_at = now() WHERE reference = 'id 1'"))
        await session.commit()
    await app.state.task_import.purge()
    async with database.session() as session:
        left = await (await session.connection()).scalars(text("SELECT reference FROM import_rows"))
        assert list(left) == ["id 2"]


async def test_a_batch_is_a_handful_of_round_trips_with_and_without_subtasks(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    flat = document(*rows(500))
    with sent_statements() as sent:
        await send(client, flat)
    assert sent == ["SELECT", "SELECT", "SELECT", "INSERT", "INSERT", "INSERT"]
    trees = [{"id": n, "title": "x", "parent_id": n - 1 if n % 5 else None} for n in range(500)]
    with sent_statements() as sent:
        await send(client, document(*trees), SECOND)
    assert len(sent) == 6
