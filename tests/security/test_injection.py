"""Words that mean something to PostgreSQL, to HTTP, to a spreadsheet or to a template stay words."""

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
from tests.e2e.coming_back import PATIENCE
from tests.e2e.conftest import Person

from devstack.polling import within

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

Json = dict[str, Any]
SQL: Final = {
    "always true": "' OR '1'='1",
    "always true, with quotes doubled": '" OR ""="',
    "a second statement": "'; DROP TABLE tasks; --",
    "a second statement without quotes": "1; DELETE FROM tasks",
    "a union": "' UNION SELECT version(), current_user, NULL --",
    "a sleep": "'||pg_sleep(600)||'",
    "a cast that tells": "' AND 1=CAST((SELECT current_user) AS int) --",
    "a dollar quote": "$$; SELECT pg_sleep(600); $$",
    "a comment": "*/ OR true /*",
    "a backslash": "\\'; SELECT 1; --",
    "a wildcard": "%",
    "wildcards": "_%_",
    "a bind parameter": ":owner_id",
    "a bind parameter of the driver": "$1",
    "a bind parameter of Python": "%(owner_id)s",
    "a format": "{owner_id} {0.__class__}",
    "a text search query": "a & !b | (c <-> d):*",
    "a text search query that is broken": "((((& | ! :* <->",
    "a regular expression": "(a+)+$",
    "an array": "{a,b,NULL}",
    "JSON": '{"$ne": null}',
    "a full width apostrophe": "\uff07 OR \uff071\uff07=\uff071",
    "a template": "${7*7} #{7*7} {{7*7}} <%= 7*7 %>",
    "markup": "<script>alert(1)</script>",
    "a log line": "x\n2026-01-01 [error] forged=true",
    "a terminal": "\x1b[2J\x1b[31mred",
}
QUERIES: Final = {
    "task-api": ["/tasks?q=", "/tasks?tag=", "/tasks?sort=", "/tasks?cursor=", "/tasks?priority=", "/tasks?due_before=",
                 "/tasks?limit=", "/tasks?offset=", "/tasks/changes?cursor=", "/completions?cursor=", "/tasks/"],
    "audit-worker": ["/audit/entries?task_id=", "/audit/entries?cursor=",
                     "/audit/entries?engagement_id=", "/audit/gaps?task_id=",
                     "/dead-letters?status="],
    "notifier": ["/notifications?cursor=", "/notifications?unread=", "/notifications/"],
}  # fmt: skip


def queries() -> Iterator[tuple[str, str]]:
    yield from ((service, path) for service, paths in QUERIES.items() for path in paths)


@pytest.mark.parametrize("attack", SQL)
async def test_a_title_is_kept_as_it_was_written(attacker: Person, victim: Person, attack: str) -> None:
    theirs = await victim.create_task("untouched")
    words = SQL[attack]
    created = await attacker.ask("POST", "/tasks", {"title": words, "description": words})
    if created.status_code == 422:  # control characters are refused
        assert not words.isprintable(), created.text
        return
    assert created.status_code == 201, created.text
    assert (created.json()["title"], created.json()["description"]) == (words.strip(), words)
    found = (await attacker.ask("GET", f"/tasks/{created.json()['id']}")).json()
    assert found["title"] == words.strip()
    assert (await victim.ask("GET", f"/tasks/{theirs['id']}")).json() == theirs


@pytest.mark.parametrize("attack", SQL)
@pytest.mark.parametrize(("service", "path"), list(queries()))
async def test_a_parameter_finds_nothing_of_others_and_breaks_nothing(
    attacker: Person, service: str, path: str, attack: str
) -> None:
    async with asyncio.timeout(PATIENCE):  # of a sleep of 600 that somebody would have smuggled in
        response = await attacker.ask("GET", f"{path}{quote(SQL[attack], safe='')}", service=service)
    assert response.status_code in {200, 403, 404, 422}, response.text
    if response.status_code == 200:
        assert response.json()["items"] == []
    for inside in ("asyncpg", "sqlalchemy", "SELECT", "syntax error", "Traceback", "/site-packages/"):
        assert inside not in response.text or inside in SQL[attack]


async def test_the_tables_are_all_there_after_that(stack: "RunningStack") -> None:
    connection = await asyncpg.connect(stack.databases["task-api"])
    try:
        assert await connection.fetchval("SELECT count(*) >= 0 FROM tasks")
    finally:
        await connection.close()


def raw_request(
    headers: list[bytes], *, method: bytes = b"GET", target: bytes = b"/api/v1/tasks", body: bytes = b""
) -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: x", *headers, b"", b""]) + body


async def raw(url: str, request: bytes) -> bytes:
    """Send bytes as they are and give the answer; again, where it is that the database had no time."""
    answers = list[bytes]()

    async def answered() -> bool:
        answers.append(await _raw_once(url, request))
        return not answers[-1].startswith(b"HTTP/1.1 503 ")

    assert await within(PATIENCE, answered, 0.2), answers[-1]
    return answers[-1]


async def _raw_once(url: str, request: bytes) -> bytes:
    """Read what comes until the other side closes, as it does after some idle seconds."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()


HEADERS: Final = [b"X-Request-ID", b"X-Correlation-ID", b"Idempotency-Key", b"If-None-Match", b"Accept"]
SPLITS: Final = {
    "a carriage return": b"a\rX-Injected: 1",
    "a line feed": b"a\nX-Injected: 1",
    "a folded line": b"a\r\n\tX-Injected: 1",
    "encoded": b"a%0d%0aX-Injected: 1",
    "a NUL": b"a\x00X-Injected: 1",
    "letters that end in CR and LF when cut to bytes": "a\u560d\u560aX-Injected: 1".encode(),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("service", QUERIES)
async def test_a_header_never_becomes_two(attacker: Person, service: str, name: bytes, split: str) -> None:
    token = attacker.http.headers["Authorization"].encode()
    request = raw_request([b"Authorization: " + token, name + b": " + SPLITS[split], b"Connection: close"])
    answer = await raw(attacker.urls[service], request)
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nx-injected" not in head
    assert b"\nx-injected" not in head
    assert head.split(b" ")[1] in {b"200", b"304", b"400", b"404", b"422"}


SMUGGLED: Final = b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n"
FRAMINGS: Final = {
    "length and chunks": [b"Content-Length: 4", b"Transfer-Encoding: chunked"],
    "two lengths": [b"Content-Length: 4", b"Content-Length: 60"],
    "a negative length": [b"Content-Length: -1"],
    "a length that is no number": [b"Content-Length: 4, 4x"],
    "an unknown encoding": [b"Transfer-Encoding: xchunked"],
    "chunked with something after it": [b"Transfer-Encoding: chunked, identity"],
    "a space before the colon": [b"Content-Length : 4"],
}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_one_request_is_never_taken_for_two(attacker: Person, framing: str) -> None:
    token = attacker.http.headers["Authorization"].encode()
    headers = [b"Authorization: " + token, b"Content-Type: application/json", *FRAMINGS[framing]]
    request = raw_request(headers, method=b"POST", body=b"0\r\n\r\n" + SMUGGLED)
    answer = await raw(attacker.urls["task-api"], request)
    assert answer.split(b" ")[1] in {b"400", b"411", b"413", b"422", b"501"}, answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer


PATHS: Final = [
    "/api/v1/../../etc/passwd",
    "/docs/../openapi.json/../../etc/passwd",
    "//etc/passwd",
    "/docs/%2e%2e/%2e%2e/etc/passwd",
    "/docs/..%5c..%5cwindows/win.ini",
    "/.env",
    "/.git/config",
]


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize("service", QUERIES)
async def test_no_path_leads_out_to_the_files(attacker: Person, service: str, target: str) -> None:
    answer = await raw(attacker.urls[service], raw_request([b"Connection: close"], target=target.encode()))
    assert answer.split(b" ")[1] in {b"400", b"401", b"404"}, answer
    assert b"root:" not in answer


async def test_cells_of_an_exported_table_are_no_formulas(attacker: Person) -> None:
    for words in ('=HYPERLINK("http://evil.example")', "+1+1", "-1+1", "@SUM(1)", "\t=1+1"):
        await attacker.ask("POST", "/tasks", {"title": words})
    exported = await attacker.ask("GET", "/tasks/export?format=csv")
    assert exported.status_code == 200, exported.text
    for line in exported.text.splitlines()[1:]:
        for cell in line.split(","):
            assert cell.strip('"')[:1] not in {"=", "+", "@", "\t"}, line


async def test_json_that_means_more_than_it_says(attacker: Person) -> None:
    before = (await attacker.ask("GET", "/tasks?total=true")).json()["total"]
    bodies = (
        '{"title": "a", "__proto__": {"admin": true}}', '{"title": "a", "constructor": 1}', '[{"title": "a"}]',
        '{"title": {"$gt": ""}}', '{"title": ["a"]}', '{"title": 1e400}', '{"title": NaN}', '{"title": "\\ud800"}',
        '{"title": "a", "completed_at": "2026-01-01T00:00:00Z"}', '{"title": "a", "version": 9}', "null", '"a"',
    )  # fmt: skip
    for body in bodies:
        response = await attacker.http.post(
            f"{attacker.urls['task-api']}/api/v1/tasks", content=body, headers={"Content-Type": "application/json"}
        )
        assert response.status_code in {400, 422}, (body, response.text)
    bomb = await attacker.http.post(
        f"{attacker.urls['task-api']}/api/v1/tasks",
        content=json.dumps({"title": "a"})[:-1] + ', "x": ' + "[" * 20_000 + "]" * 20_000 + "}",
        headers={"Content-Type": "application/json"},
    )
    assert bomb.status_code in {400, 413, 422}, bomb.text[:200]
    assert (await attacker.ask("GET", "/tasks?total=true")).json()["total"] == before
