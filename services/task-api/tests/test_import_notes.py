"""Notes of Todoist become comments: with their tasks or not at all, once, and within the limits of comments."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx2
import pytest

from chassis.testing import bearer
from task_api.portability.rows import FileRow
from task_api.portability.todoist import TodoistRows

TASKS = "/api/v1/tasks"
ALICE = bearer("alice")
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
FILE = "\n".join(
    [
        "TYPE,CONTENT,INDENT,DATE",
        "note,before any task,,",
        "task,Move,1,",
        "note,first,,2026-06-08T07:02:05.000000Z",
        "note,second,,2126-06-08T07:02:05Z",
        "task,Pack,2,",
        'note,"  two\n  lines  ",,last week',
        "note,   ,,",
        "task,,1,",
        "note,of a task that is none,,",
    ]
)


async def send(client: httpx2.AsyncClient, content: str = FILE, query: str = "") -> httpx2.Response:
    headers = ALICE | {"Content-Type": "text/csv", "Idempotency-Key": "k"}
    return await client.post(f"{TASKS}/import{query}", content=content.encode(), headers=headers)


async def comments(client: httpx2.AsyncClient) -> dict[str, list[str]]:
    found = {}
    for task in (await client.get(f"{TASKS}?sort=position", headers=ALICE)).json()["items"]:
        page = (await client.get(f"{TASKS}/{task['id']}/comments", headers=ALICE)).json()
        found[task["title"]] = [comment["body"] for comment in page["items"]]
    return found


async def test_notes_are_comments_of_the_task_above_them_in_their_order(client: httpx2.AsyncClient) -> None:
    report = (await send(client)).json()
    assert (report["created"], report["comments"], report["failed"]) == (2, 3, 1)
    assert [remark["code"] for remark in report["remarks"]] == ["row_left_out"]
    assert await comments(client) == {"Move": ["first", "second"], "Pack": ["two\n  lines"]}
    (move, _) = (await client.get(f"{TASKS}?sort=position", headers=ALICE)).json()["items"]
    first, second = (await client.get(f"{TASKS}/{move['id']}/comments", headers=ALICE)).json()["items"]
    assert (first["created_at"], first["version"], first["edited_at"]) == ("2026-06-08T07:02:05Z", 1, None)
    assert datetime.fromisoformat(second["created_at"]) <= datetime.now(UTC), "nothing is written in the future"


async def test_a_file_sent_again_writes_no_note_twice(client: httpx2.AsyncClient) -> None:
    reports = [answer.json() for answer in await asyncio.gather(send(client), send(client))]
    assert sorted(report["comments"] for report in reports) == [0, 3]
    assert sorted(report["already_imported"] for report in reports) == [0, 2]
    assert (await send(client)).json()["comments"] == 0
    assert await comments(client) == {"Move": ["first", "second"], "Pack": ["two\n  lines"]}


@pytest.mark.parametrize("table", ["comments", "import_rows", "outbox"])
async def test_tasks_and_notes_are_written_together_or_not_at_all(
    client: httpx2.AsyncClient, database_url: str, table: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '57014'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse()
        """
    )
    assert (await send(client)).status_code == 503
    for written in ("tasks", "comments", "import_rows", "outbox"):
        assert await connection.fetchval(f"SELECT count(*) FROM {written}") == 0
    await connection.execute("DROP FUNCTION refuse CASCADE")
    await connection.close()
    assert (await send(client)).json()["comments"] == 3
    assert await comments(client) == {"Move": ["first", "second"], "Pack": ["two\n  lines"]}


async def test_a_trial_counts_notes_and_writes_none(client: httpx2.AsyncClient) -> None:
    report: dict[str, Any] = (await send(client, query="?dry_run=true")).json()
    assert (report["created"], report["comments"]) == (2, 3)
    assert await comments(client) == {}


def read(*notes: str, reader: TodoistRows | None = None) -> FileRow:
    reader = reader or TodoistRows(now=NOW, time_zone="UTC")
    rows = [{"TYPE": "task", "CONTENT": "x"}, *({"TYPE": "note", "CONTENT": note} for note in notes)]
    assert [*(row for number, cells in enumerate(rows, start=1) for row in reader.read(number, number, cells))] == []
    (row,) = reader.end()
    return row


def test_a_long_note_becomes_several_comments_that_together_say_all_of_it() -> None:
    long = "word " * 5_000
    row = read("short", long)
    bodies = [comment.body for comment in row.comments]
    assert [len(body) for body in bodies] == [5, 10_000, 10_000, 4_999]
    assert "".join(bodies[1:]) == long.strip()
    assert row.remarks.total == 0


def test_a_task_has_as_many_notes_as_comments_may_be() -> None:
    row = read(*(str(number) for number in range(1_002)))
    assert [comment.body for comment in row.comments] == [str(number) for number in range(1_000)]
    assert [(remark.line, remark.code) for remark in row.remarks] == [
        (1_002, "note_left_out"),
        (1_003, "note_left_out"),
    ]
    assert all("1000 comments" in remark.detail for remark in row.remarks)


def test_what_is_held_of_the_notes_of_one_task_is_bounded() -> None:
    reader = TodoistRows(now=NOW, time_zone="UTC")
    for _ in range(2):
        row = read(*("n" * 10_000 for _ in range(102)), reader=reader)
        assert sum(len(comment.body) for comment in row.comments) == 1_000_000
        assert [remark.code for remark in row.remarks] == ["note_left_out"] * 2
        assert row.chars >= 1_000_000, "so the batch is written at once"


def test_a_note_that_no_comment_can_be_is_left_out() -> None:
    row = read("a\x00b", "fine")
    assert [comment.body for comment in row.comments] == ["fine"]
    assert [(remark.line, remark.code) for remark in row.remarks] == [(2, "note_left_out")]


def test_of_very_many_remarks_on_a_task_the_first_are_kept_and_all_are_counted() -> None:
    row = read(*("x" for _ in range(1_300)))
    assert (len([*row.remarks]), row.remarks.total) == (100, 300)
