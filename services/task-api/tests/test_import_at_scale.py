"""Large files: few rows are held at a time, however many there are; and a SIGKILL in the middle costs nothing."""

import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from chassis.testing import PATIENCE, bearer
from chassis.testing_environment import environment_for
from devstack.polling import within
from devstack.service_process import ServiceProcess, running_service
from task_api.engagements.spaces import Space
from task_api.portability.exporting import TaskExport
from task_api.portability.importing import BATCH
from task_api.portability.rows import FileRow
from task_api.tasks.models import Task

TASKS = "/api/v1/tasks"
HEAD, END = b'{"format": "taskwire-tasks", "version": 1, "tasks": [\n', b"]}\n"
ALICE = bearer("alice") | {"Idempotency-Key": "large", "Content-Type": "application/json"}


def row(number: int, description: str = "") -> bytes:
    parent = number - 1 if number % 3 else "null"
    return b'{"id": %d, "parent_id": %s, "title": "task %d", "description": "%s"},\n' % (
        number,
        str(parent).encode(),
        number,
        description.encode(),
    )


@pytest.fixture
def counting() -> None:
    """Have `alive` look at what is made from here on: what is there already may be a million objects."""
    gc.collect()
    gc.freeze()


def alive(kind: type[object]) -> int:
    # Not isinstance: a model's class answers slowly.
    return sum(type(one) is kind for one in gc.get_objects())


@pytest.mark.usefixtures("counting")
async def test_an_import_holds_one_batch_whatever_the_size_of_the_file(client: httpx2.AsyncClient) -> None:
    count, held = 6 * BATCH, []

    async def file() -> AsyncIterator[bytes]:
        yield HEAD
        for number in range(count):
            yield row(number)[: -2 if number == count - 1 else None]
            if number % 100 == 0:
                held.append((alive(FileRow), alive(Task)))
        yield END

    report = (await client.post(f"{TASKS}/import", content=file(), headers=ALICE)).json()
    assert report["created"] == count
    assert max(rows for rows, _ in held) <= BATCH + 10
    assert max(tasks for _, tasks in held) == 0  # they are made and let go within a batch


@pytest.mark.usefixtures("counting")
async def test_tasks_with_much_text_are_written_in_smaller_batches(client: httpx2.AsyncClient) -> None:
    held = []

    async def file() -> AsyncIterator[bytes]:
        yield HEAD
        for number in range(250):
            yield row(number, "x" * 9_900)[: -2 if number == 249 else None]
            if number % 5 == 0:
                held.append(alive(FileRow))
        yield END

    report = (await client.post(f"{TASKS}/import", content=file(), headers=ALICE)).json()
    assert report["created"] == 250
    assert max(held) <= 115


async def test_an_export_is_made_piece_by_piece(app: FastAPI, client: httpx2.AsyncClient) -> None:
    content = HEAD + b"".join(map(row, range(1_000)))[:-2] + END
    assert (await client.post(f"{TASKS}/import", content=content, headers=ALICE)).json()["created"] == 1_000
    export: TaskExport = app.state.task_export
    sizes = [len(piece) async for piece in await export.begin(Space("alice"), "json")]
    assert len(sizes) == 1 + 4 + 1
    assert max(sizes) < sum(sizes) / 3


def running(database_url: str, log: Path) -> AbstractAsyncContextManager[ServiceProcess]:
    """Run the real service until the block ends, or until it is killed."""
    return running_service("task_api", environment_for(database_url), log)


def json_rows(count: int) -> list[bytes]:
    rows = [row(number) for number in range(count)]
    return [*rows[:-1], rows[-1][:-2]]


def todoist_rows(count: int) -> list[bytes]:
    """Give the same tasks, each with two notes."""
    notes = "note,one on task %(n)d,\nnote,two on task %(n)d,\n"
    return [("task,task %(n)d,%(i)d\n" + notes).replace("%(i)d", str(n % 3 + 1)).replace("%(n)d", str(n)).encode()
            for n in range(count)]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "head", "make", "end", "notes"),
    [
        ("application/json", HEAD, json_rows, END, 0),
        ("text/csv", b"TYPE,CONTENT,INDENT\n", todoist_rows, b"", 2),
    ],
    ids=["json", "todoist"],
)
async def test_a_sigkill_amid_an_import_costs_nothing_when_the_file_is_sent_again(
    database_url: str,
    tmp_path: Path,
    kind: str,
    head: bytes,
    make: Callable[[int], list[bytes]],
    end: bytes,
    notes: int,
) -> None:
    count = 6 * BATCH
    rows = make(count)
    headers = ALICE | {"Content-Type": kind}
    connection = await asyncpg.connect(database_url)

    async def some_are_there() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM tasks") >= 2 * BATCH)

    async with (
        running(database_url, tmp_path / "first.log") as first,
        httpx2.AsyncClient(base_url=first.url, timeout=PATIENCE, headers=headers) as http,
    ):

        async def file() -> AsyncIterator[bytes]:
            yield head
            for number in range(count * 5 // 6):
                yield rows[number]
            assert await within(PATIENCE, some_are_there, 0.005)
            first.process.kill()
            yield end

        with contextlib.suppress(httpx2.TransportError):
            await http.post(f"{TASKS}/import", content=file())
        assert await first.process.wait() == -9
    before = await connection.fetchval("SELECT count(*) FROM tasks")
    assert 2 * BATCH <= before < count
    async with (
        running(database_url, tmp_path / "second.log") as second,
        httpx2.AsyncClient(base_url=second.url, timeout=PATIENCE, headers=headers) as http,
    ):
        report: dict[str, Any] = (await http.post(f"{TASKS}/import", content=b"".join([head, *rows, end]))).json()
    assert (report["created"], report["already_imported"], report["failed"]) == (count - before, before, 0)
    titles = [found["title"] for found in await connection.fetch("SELECT title FROM tasks ORDER BY position")]
    assert titles == [f"task {number}" for number in range(count)]
    assert await connection.fetchval("SELECT count(DISTINCT aggregate_id) FROM outbox") == count
    assert await connection.fetchval("SELECT count(*) FROM outbox") == count
    wrong = "SELECT count(*) FROM tasks AS task JOIN tasks AS above ON above.id = task.parent_id WHERE task.title <> "
    assert await connection.fetchval(wrong + "'task ' || split_part(above.title, ' ', 2)::int + 1") == 0
    assert await connection.fetchval("SELECT count(*) FROM tasks WHERE parent_id IS NOT NULL") == count * 2 // 3
    assert await connection.fetchval("SELECT count(*) FROM comments") == count * notes
    told = "SELECT count(DISTINCT (task_id, body)) FROM comments JOIN tasks AS task ON task.id = task_id"
    assert await connection.fetchval(told + " WHERE body LIKE '% on ' || title") == count * notes
    await connection.close()
