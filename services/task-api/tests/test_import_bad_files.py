"""Files that are wrong: each is refused by an error that names the line and the limit, and none makes a 5xx."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import PATIENCE, bearer, serving, settings_for
from devstack.polling import within
from task_api.app import create_app
from task_api.settings import TaskApiSettings

TASKS = "/api/v1/tasks"
ALICE = bearer("alice")
HEAD = b'{"format": "taskwire-tasks", "version": 1, "tasks": ['
JSON, CSV = "application/json", "text/csv"
SHAPE = 'Line 1: the file must begin with {"format": "taskwire-tasks", "version": 1, "tasks": [.'
CUT_OFF = "the file ends here in the middle of something: it was cut off"


async def post(
    client: httpx2.AsyncClient, content: bytes | AsyncIterator[bytes], form: str = JSON, query: str = "?dry_run=true"
) -> httpx2.Response:
    headers = ALICE | {"Content-Type": form, "Idempotency-Key": "k"}
    return await client.post(f"{TASKS}/import{query}", content=content, headers=headers)


async def titles(client: httpx2.AsyncClient) -> list[str]:
    return [task["title"] for task in (await client.get(f"{TASKS}?sort=position", headers=ALICE)).json()["items"]]


@pytest.mark.parametrize(
    ("form", "content", "line", "message"),
    [
        pytest.param(JSON, b"", 1, SHAPE[8:-1], id="empty json"),
        pytest.param(JSON, b"[]", 1, SHAPE[8:-1], id="bare list"),
        pytest.param(JSON, b'{"tasks": []}', 1, SHAPE[8:-1], id="no head"),
        pytest.param(JSON, b"\x00\x01", 1, SHAPE[8:-1], id="no json"),
        pytest.param(JSON, b'"' + b"x" * 9_000, 1, SHAPE[8:-1], id="long head"),
        pytest.param(JSON, HEAD.replace(b"1", b"2"), 1, "this version of the format is not known; 1 is", id="version"),
        pytest.param(JSON, HEAD + b'\n{"title": "a"},', 2, CUT_OFF, id="cut off between tasks"),
        pytest.param(JSON, HEAD + b'\n{"title": "a', 2, CUT_OFF, id="cut off in a text"),
        pytest.param(JSON, HEAD + b'\n{"title": "a"}]', 2, CUT_OFF, id="cut off before the end"),
        pytest.param(
            JSON, HEAD + b"\n1]}", 2, "tasks must be objects, with a comma between two of them", id="no objects"
        ),
        pytest.param(JSON, HEAD + b"]}\n{}", 2, "there is something after the end", id="something after the end"),
        pytest.param(
            JSON, HEAD + b'], "more": 1}', 1, "after the tasks there may only be the closing bracket", id="more"
        ),
        pytest.param(JSON, HEAD + b'{"a":' + b"[" * 9, 1, "the nesting is deeper than 8 levels", id="nesting"),
        pytest.param(JSON, HEAD + b'{"title": "\xff"}]}', 1, "the file is not UTF-8", id="json not utf-8"),
        pytest.param(
            JSON,
            HEAD + b'{"title": "' + b"x" * 10_000_000 + b'"}]}',
            1,
            "a task takes more than 262144 bytes, or a quote is open",
            id="10 MB in one field of json",
        ),
        pytest.param(CSV, b"", 1, "the file is empty; its first line must name the columns", id="empty csv"),
        pytest.param(CSV, b"\xef\xbb\xbf", 1, "the file is empty; its first line must name the columns", id="bom"),
        pytest.param(CSV, b"title\r\na\r\n\xff\r\n", 3, "the file is not UTF-8", id="csv not utf-8"),
        pytest.param(CSV, "title\na\n".encode("utf-16"), 1, "the file is not UTF-8", id="utf-16"),
        pytest.param(CSV, b'title\r\na\r\n"b\r\nc\r\n', 3, "a quote is opened here and never closed", id="quotes"),
        pytest.param(
            CSV,
            b'title\r\n"' + b"x" * 10_000_000 + b'"\r\n',
            2,
            "a task takes more than 262144 bytes, or a quote is open",
            id="10 MB in one field of csv",
        ),
        pytest.param(
            CSV, b"id,priority\r\n", 1, "the header must have the column title, and each column once", id="no title"
        ),
        pytest.param(
            CSV, b"title,title\r\n", 1, "the header must have the column title, and each column once", id="twice"
        ),
        pytest.param(CSV, b"a" + b",b" * 64, 1, "the header has more than 64 columns", id="many columns"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_with_its_line(
    client: httpx2.AsyncClient, form: str, content: bytes, line: int, message: str
) -> None:
    response = await post(client, content, form)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_file")
    assert response.json()["errors"] == [{"field": f"line {line}", "message": message}]
    assert response.json()["detail"] == f"Line {line}: {message}."


async def test_a_column_that_is_not_known_is_named_by_its_number(client: httpx2.AsyncClient) -> None:
    response = await post(client, b"title,colour\r\n", CSV)
    assert response.json()["detail"].startswith("Line 1: column 2 of the header is not known; there are id, parent_id,")
    assert "colour" not in response.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"a", "has 1 cells where the header has 4"),
        (b'a,,,"b"c', "not a row of CSV: ',' expected after '\"'"),
        (b"a\x00,,,", "title: must not contain NUL"),
        (b"a,tomorrow,,", "due_at: must be a date and time with offset as in RFC 3339, e.g. 2027-01-31T09:00:00Z"),
        (b"a,,maybe,", "completed: must be true or false"),
        (b"a,,,urgent", "priority: Input should be 'high', 'medium' or 'low'"),
        (b"x" * 201 + b",,,", "title: String should have at most 200 characters"),
    ],
)
async def test_a_bad_row_is_refused_alone(client: httpx2.AsyncClient, row: bytes, message: str) -> None:
    response = await post(client, b"title,due_at,completed,priority\r\n" + row + b"\r\nfine,,TRUE,low\r\n", CSV)
    assert response.status_code == 200, response.text
    report = response.json()
    assert (report["created"], report["failed"]) == (1, 1)
    assert [(one["line"], one["detail"]) for one in report["problems"]] == [(2, message)]


async def test_a_file_that_breaks_in_the_middle_says_how_much_is_imported_and_can_be_sent_again(
    client: httpx2.AsyncClient,
) -> None:
    good = b",\n".join(b'{"title": "%d"}' % number for number in range(3))
    response = await post(client, HEAD + good + b',\n{"title": "cut', query="")
    assert response.status_code == 422
    assert response.json()["detail"] == f"Line 4: {CUT_OFF}. Of the tasks above it, 3 are imported."
    assert await titles(client) == ["0", "1", "2"]
    again = await post(client, HEAD + good + b',\n{"title": "3"}]}', query="")
    assert (again.json()["created"], again.json()["already_imported"]) == (1, 3)
    assert await titles(client) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/xml", None),
        ("text/csv; charset=latin-1", None),
        ("application/json", "gzip"),
        ("", None),
    ],
)
async def test_other_forms_are_refused(client: httpx2.AsyncClient, content_type: str, encoding: str | None) -> None:
    headers = ALICE | {"Content-Type": content_type} | ({"Content-Encoding": encoding} if encoding else {})
    response = await client.post(f"{TASKS}/import?dry_run=true", content=b"x", headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert response.json()["detail"].startswith("Send the file as application/json or text/csv")


async def test_the_parent_must_come_before_and_trees_have_limits(client: httpx2.AsyncClient) -> None:
    def row(number: int, parent: int | None = None) -> dict[str, Any]:
        return {"id": number, "parent_id": parent, "title": "x"}

    deep = [row(number, number - 1 or None) for number in range(1, 7)]
    strayed = [row(10), row(11), row(12, 10), row(13, 99), row(14, 14), row(15, 11)]
    wide = [row(100), *(row(number, 100) for number in range(101, 601))]
    content = json.dumps([*deep, *strayed, *wide]).encode()[1:-1]
    problems = (await post(client, HEAD + content + b"]}", query="")).json()["problems"]
    assert [(one["id"], one["code"]) for one in problems] == [
        (n, "invalid_parent") for n in ("6", "12", "13", "14", "600")
    ]
    assert problems[0]["detail"] == "parent_id would nest tasks more than 5 levels deep"
    assert problems[1]["detail"].startswith("parent_id must be the id of a task that comes before this one in the file")
    assert problems[4]["detail"] == "parent_id would make a tree of more than 500 tasks"


Limited = Callable[..., TaskApiSettings]


@pytest.fixture
def limited(database_url: str) -> Limited:
    def make(**limits: object) -> TaskApiSettings:
        return settings_for(TaskApiSettings, database_url, **limits)

    return make


async def endless() -> AsyncIterator[bytes]:
    yield HEAD
    while True:
        yield b'{"title": "a"},' * 100


async def test_a_file_has_so_many_bytes_at_most(limited: Limited) -> None:
    async with serving(create_app(limited(import_max_body_bytes=20_000))) as client:
        response = await post(client, endless(), query="")
        assert (response.status_code, response.json()["detail"]) == (413, "The body is larger than 20000 bytes.")
        bulk = await client.post(f"{TASKS}/bulk", content=b"x" * 30_000, headers=ALICE | {"Content-Type": JSON})
        assert bulk.json()["code"] == "malformed_json"


async def test_a_file_has_so_many_tasks_at_most(limited: Limited) -> None:
    async with serving(create_app(limited(import_max_tasks=3))) as client:
        response = await post(client, HEAD + b'{"title": "a"},' * 3 + b'\n{"title": "a"}]}', query="")
        assert response.json()["detail"] == (
            "Line 2: the file has more than 3 tasks. Of the tasks above it, 3 are imported."
        )
        assert len(await titles(client)) == 3


async def test_an_upload_that_stalls_ends_with_408(limited: Limited) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield HEAD
        await asyncio.sleep(3600)

    async with serving(create_app(limited(import_stall_timeout=0.05))) as client:
        response = await post(client, stalling(), query="")
        assert (response.status_code, response.json()["code"]) == (408, "upload_stalled")
        assert response.headers["connection"] == "close"


async def test_a_user_has_so_many_transfers_under_way_at_most(limited: Limited) -> None:
    app = create_app(limited(transfers_per_user=1, transfers_per_replica=2))
    release = asyncio.Event()
    async with serving(app) as client:

        async def slow() -> AsyncIterator[bytes]:
            yield HEAD
            await release.wait()
            yield b"]}"

        def importing(user: str) -> asyncio.Task[httpx2.Response]:
            headers = bearer(user) | {"Content-Type": JSON}
            return asyncio.create_task(
                client.post(f"{TASKS}/import?dry_run=true", content=slow(), headers=headers), name="import"
            )

        def under_way(count: int) -> Callable[[], Awaitable[bool]]:
            async def so_many() -> bool:
                return bool(app.state.transfers.under_way == count)

            return so_many

        first = importing("alice")
        assert await within(PATIENCE, under_way(1), 0.01)
        refused = await client.get(f"{TASKS}/export", headers=ALICE)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_transfers")
        second = importing("bob")
        assert await within(PATIENCE, under_way(2), 0.01)
        refused = await client.get(f"{TASKS}/export", headers=bearer("carol"))
        assert (refused.status_code, refused.json()["code"]) == (503, "transfers_exhausted")
        release.set()
        assert [(await one).status_code for one in (first, second)] == [200, 200]
        assert (await client.get(f"{TASKS}/export", headers=ALICE)).status_code == 200
        assert app.state.transfers.under_way == 0


@given(content=st.binary(max_size=60), form=st.sampled_from([JSON, CSV]), begun=st.booleans())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_bytes_make_the_service_fail(
    client: httpx2.AsyncClient, content: bytes, form: str, begun: bool
) -> None:
    head = {JSON: HEAD + b'{"title": ', CSV: b"title,tags,parent_id\r\n"}[form] if begun else b""
    response = await post(client, head + content, form)
    assert response.status_code in {200, 422}
