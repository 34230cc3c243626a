"""docs/api/limits.md, row by row: past each number there is the error that it says, and it names the number."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from chassis.testing import bearer

TASKS: Final = "/api/v1/tasks"
ALICE: Final = bearer("alice")
PAGE: Final = Path(__file__).parents[3] / "docs" / "api" / "limits.md"
ROWS: Final = re.findall(r"^\| (.+) \| ([\d,]+) \| (\d+) `(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
Ask = tuple[str, str, dict[str, Any]]


def new(**fields: object) -> Ask:
    return "POST", TASKS, {"json": {"title": "x"} | fields}


def recurring(**parts: str) -> Ask:
    return new(due_at="2100-01-01T08:00:00Z", recurrence={"rule": "FREQ=DAILY"} | parts)


def listed(query: str) -> Ask:
    return "GET", f"{TASKS}?{query}", {}


def bulk(count: int) -> Ask:
    return "POST", f"{TASKS}/bulk", {"json": {"operations": [{"op": "delete", "id": 1}] * count}}


ME: Final = "/api/v1/users/me"


def key(path: str = "", **fields: object) -> Ask:
    body = fields if path else {"name": "x", "scopes": ["tasks:read"]} | fields
    return "POST", f"/api/v1/api-keys{path}", {"json": body}


PAST: Final[dict[str, Ask]] = {
    "title, characters at most": new(title="x" * 201),
    "description, characters at most": new(description="x" * 10_001),
    "tags of a task": new(tags=[str(number) for number in range(21)]),
    "characters of a tag": new(tags=["x" * 51]),
    "earliest year of a date": new(due_at="1969-12-31T23:59:59Z"),
    "latest year of a date": new(due_at="2200-01-01T00:00:00Z"),
    "characters of a time zone": recurring(time_zone="x" * 65),
    "characters of an RRULE": recurring(rule="FREQ=MONTHLY;BYMONTHDAY=" + ",".join("1" * 100)),
    "`INTERVAL` of an RRULE": recurring(rule="FREQ=DAILY;INTERVAL=101"),
    "`COUNT` of an RRULE": recurring(rule="FREQ=DAILY;COUNT=1001"),
    "year before which an RRULE has an occurrence": recurring(rule="FREQ=YEARLY;INTERVAL=100"),
    "levels of subtasks": new(parent_id="{deepest}"),
    "tasks in one tree": new(parent_id="{full}"),
    "largest id": ("GET", f"{TASKS}/9223372036854775808", {}),
    "tasks on a page, at least": listed("limit=0"),
    "tasks on a page, at most": listed("limit=201"),
    "`offset` of a list": listed("offset=1000001"),
    "characters of `q`": listed("q=" + "x" * 201),
    "words of `q`": listed("q=" + "+".join("x" * 11)),
    "tags in a filter": listed("&".join(f"tag={number}" for number in range(11))),
    "priorities in a filter": listed("&".join(["priority=low"] * 4)),
    "keys of `sort`": listed("sort=title,position,due_at,created_at,updated_at"),
    "characters of `sort`": listed("sort=" + "x" * 101),
    "characters of a cursor of a list": listed("cursor=" + "x" * 2_001),
    "characters of a cursor of the feed": ("GET", f"{TASKS}/changes?cursor={'x' * 129}", {}),
    "changes on a page of the feed": ("GET", f"{TASKS}/changes?limit=501", {}),
    "operations of a bulk, at least": bulk(0),
    "operations of a bulk, at most": bulk(501),
    "bytes of a body": new(description="x" * 65_536),
    "bytes of the body of a bulk": ("POST", f"{TASKS}/bulk", {"content": b" " * 1_048_577}),
    "characters of an `Idempotency-Key`": (
        "POST", TASKS, {"json": {"title": "x"}, "headers": ALICE | {"Idempotency-Key": "x" * 256}},
    ),
    "characters of a comment": ("POST", f"{TASKS}/1/comments", {"json": {"body": "x" * 10_001}}),
    "comments on a page, at most": ("GET", f"{TASKS}/1/comments?limit=201", {}),
    "completions on a page, at most": ("GET", "/api/v1/completions?limit=201", {}),
    "characters of a line of quick add": ("POST", f"{TASKS}/quick-add", {"json": {"text": "x" * 501}}),
    "characters of the name of a calendar feed": ("POST", "/api/v1/calendar-feeds", {"json": {"name": "x" * 101}}),
    "characters of the name of an engagement": ("POST", "/api/v1/engagements", {"json": {"name": "x" * 101}}),
    "engagements on a page, at most": ("GET", "/api/v1/engagements?limit=201", {}),
    "days until an invitation expires": (
        "POST", "/api/v1/engagements/1/invitations",
        {"json": {"role": "viewer", "expires_at": (datetime.now(UTC) + timedelta(days=31)).isoformat()}},
    ),
    "characters of a name": ("PATCH", ME, {"json": {"name": "x" * 201}}),
    "characters of an e-mail address": ("PATCH", ME, {"json": {"email": "x" * 250 + "@example.org"}}),
    "characters of a locale": ("PATCH", ME, {"json": {"locale": "en-" + "x" * 33}}),
    "bytes of the preferences": ("PATCH", ME, {"json": {"preferences": {"a": "x" * 16_384}}}),
    "levels of the preferences": ("PATCH", ME, {"json": {"preferences": {"a": {"b": {"c": {"d": {"e": {}}}}}}}}),
    "characters of the name of an API key": key(name="x" * 101),
    "scopes of an API key": key(scopes=["tasks:read"] * 21),
    "seconds that secrets of an API key overlap": key("/1/rotate", overlap_seconds=604_801),
    "API keys on a page, at most": ("GET", "/api/v1/api-keys?limit=201", {}),
    "characters of a token": ("GET", TASKS, {"headers": {"Authorization": "Bearer " + "x" * 8_193}}),
    "bytes of a URL": listed("q=" + "x" * (8_193 - len(TASKS) - len("q="))),
    "headers of a request": ("GET", TASKS, {"headers": ALICE | {f"X-{number}": "x" for number in range(100)}}),
    "bytes of the headers of a request": ("GET", TASKS, {"headers": ALICE | {"X-Large": "x" * 16_384}}),
}  # fmt: skip


def test_every_limit_is_provoked() -> None:
    assert [row[0] for row in ROWS] == list(PAST)


async def trees(client: httpx2.AsyncClient) -> dict[str, int]:
    """Make a line of as many tasks as may be below each other, and a tree of as many as may be in one."""
    last: int | None = None
    for _ in range(5):
        answer = await client.post(TASKS, json={"title": "x", "parent_id": last}, headers=ALICE)
        last = answer.json()["id"]
    assert last is not None
    made = {"{deepest}": last}
    top = (await client.post(TASKS, json={"title": "x"}, headers=ALICE)).json()["id"]
    below = [{"op": "create", "task": {"title": "x", "parent_id": top}}] * 499
    for half in (below[:250], below[250:]):
        answer = await client.post(f"{TASKS}/bulk", json={"operations": half}, headers=ALICE)
        assert answer.json()["failed"] == 0
    return made | {"{full}": top}


@pytest.mark.parametrize(("what", "number", "status", "code"), ROWS, ids=[row[0] for row in ROWS])
async def test_past_a_limit_the_error_names_its_number(
    client: httpx2.AsyncClient, what: str, number: str, status: str, code: str
) -> None:
    method, path, sent = PAST[what]
    parent = sent.get("json", {}).get("parent_id")
    if isinstance(parent, str):
        sent = {"json": sent["json"] | {"parent_id": (await trees(client))[parent]}}
    answer = await client.request(method, path, **{"headers": ALICE, **sent})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (int(status), code), answer.text
    said = problem["detail"] + " ".join(error["message"] for error in problem.get("errors", []))
    assert re.search(rf"(?<!\d){number.replace(',', '')}(?!\d)", said), said


MALFORMED: Final = {
    "nested 10,000 deep": b"[" * 10_000 + b"]" * 10_000,
    "nested inside of a field": b'{"title": "x", "description": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "not UTF-8": b'{"title": "\xff\xfe"}',
    "a number of 5,000 digits": b'{"title": "x", "parent_id": ' + b"9" * 5_000 + b"}",
    "compressed": b"\x1f\x8b",
    "cut off": b'{"title": "x"',
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_json_is_a_400(client: httpx2.AsyncClient, content: bytes) -> None:
    headers = ALICE | {"Content-Type": "application/json"}
    answer = await client.post(TASKS, content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


async def test_of_a_name_that_is_there_twice_the_last_counts(client: httpx2.AsyncClient) -> None:
    headers = ALICE | {"Content-Type": "application/json"}
    answer = await client.post(TASKS, content=b'{"title": "a", "title": "b"}', headers=headers)
    assert (answer.status_code, answer.json()["title"]) == (201, "b")


@pytest.mark.parametrize("field", ["title", "description", "tags"])
@pytest.mark.parametrize("text", ["a\x00b", "\ud800"], ids=["NUL", "half of a pair"])
async def test_what_cannot_be_stored_is_refused_in_every_text(
    client: httpx2.AsyncClient, field: str, text: str
) -> None:
    body = {"title": "x"} | {field: [text] if field == "tags" else text}
    headers = ALICE | {"Content-Type": "application/json"}
    answer = await client.post(TASKS, content=json.dumps(body), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert answer.json()["errors"][0]["field"].split(".")[0] == field


@pytest.mark.parametrize("query", ["q=%ff", "q=%ed%a0%80", "tag=%ff", "q=%26%7C!():*", "q=🛒", "q=%D7%90%D7%91", "q='"])
async def test_a_search_for_anything_is_answered(client: httpx2.AsyncClient, query: str) -> None:
    answer = await client.get(f"{TASKS}?{query}", headers=ALICE)
    assert (answer.status_code, answer.json()["items"]) == (200, [])
