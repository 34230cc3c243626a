"""Quick add over HTTP: a draft without a trace, and a task as any other."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx2
import pytest
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent

TASKS = "/api/v1/tasks"
QUICK = f"{TASKS}/quick-add"
CREATE = f"{QUICK}/create"
ALICE = bearer("alice")
LINE = {"text": "pay rent every 1st at 9am #home !high", "time_zone": "Europe/Paris"}
SentStatements = Callable[[], AbstractContextManager[list[str]]]


async def events_in(database: Database) -> list[OutboxEvent]:
    async with database.session() as session:
        return list((await session.exec(select(OutboxEvent))).all())


async def test_a_line_that_says_its_time_zone_is_read_without_asking_the_database(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    with sent_statements() as sent:
        answer = await client.post(QUICK, json=LINE, headers=ALICE)
    assert (answer.status_code, sent) == (200, [])
    shown = answer.json()
    assert shown["draft"].pop("due_at").endswith(("T08:00:00Z", "T07:00:00Z"))
    assert shown == {
        "draft": {
            "title": "pay rent",
            "priority": "high",
            "tags": ["home"],
            "recurrence": {"rule": "FREQ=MONTHLY;BYMONTHDAY=1", "anchor": "due", "time_zone": "Europe/Paris"},
        },
        "parts": [
            {"kind": "recurrence", "start": 9, "end": 18, "text": "every 1st"},
            {"kind": "time", "start": 19, "end": 25, "text": "at 9am"},
            {"kind": "tag", "start": 26, "end": 31, "text": "#home"},
            {"kind": "priority", "start": 32, "end": 37, "text": "!high"},
        ],
    }


async def test_spans_count_code_points(client: httpx2.AsyncClient) -> None:
    shown = (await client.post(QUICK, json={"text": "\U0001f600 cake #party"}, headers=ALICE)).json()
    assert shown["parts"] == [{"kind": "tag", "start": 7, "end": 13, "text": "#party"}]


async def test_the_draft_is_a_body_for_an_ordinary_create(client: httpx2.AsyncClient) -> None:
    draft = (await client.post(QUICK, json=LINE, headers=ALICE)).json()["draft"]
    made = await client.post(TASKS, json=draft, headers=ALICE)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in draft} == draft


async def test_a_line_becomes_an_ordinary_task_with_its_event(client: httpx2.AsyncClient, database: Database) -> None:
    draft = (await client.post(QUICK, json=LINE, headers=ALICE)).json()["draft"]
    made = await client.post(CREATE, json=LINE, headers=ALICE)
    assert made.status_code == 201
    task = made.json()
    assert {name: task[name] for name in draft} == draft
    assert made.headers["location"] == f"{TASKS}/{task['id']}"
    (event,) = await events_in(database)
    assert (event.type, event.aggregate_id, event.payload["task"]["title"]) == ("task.created", task["id"], "pay rent")
    shown = await client.get(made.headers["location"], headers=ALICE)
    assert (shown.json(), shown.headers["etag"]) == (task, made.headers["etag"])


async def test_it_costs_the_statements_of_an_ordinary_create(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    with sent_statements() as ordinary:
        await client.post(TASKS, json={"title": "x"}, headers=ALICE)
    with sent_statements() as quick:
        await client.post(CREATE, json=LINE, headers=ALICE)
    assert quick == ordinary


async def test_a_create_sent_again_under_its_key_makes_one_task(client: httpx2.AsyncClient, database: Database) -> None:
    keyed = ALICE | {"Idempotency-Key": "k-1"}
    first, again = [await client.post(CREATE, json=LINE, headers=keyed) for _ in range(2)]
    assert (again.status_code, again.headers["idempotent-replayed"], again.content) == (201, "true", first.content)
    other = await client.post(CREATE, json=LINE | {"text": "x"}, headers=keyed)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await events_in(database)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [("#home !high tomorrow", "leaves a title of 0 characters"), ("x" * 201, "leaves a title of 201 characters")],
)
async def test_what_leaves_no_title_is_read_but_not_created(
    client: httpx2.AsyncClient, database: Database, text: str, words: str
) -> None:
    assert (await client.post(QUICK, json={"text": text}, headers=ALICE)).status_code == 200
    refused = await client.post(CREATE, json={"text": text}, headers=ALICE)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_error")
    (problem,) = refused.json()["errors"]
    assert problem["field"] == "text"
    assert problem["message"] == f"{words}; a title has 1 to 200"
    assert await events_in(database) == []


@pytest.mark.parametrize("path", [QUICK, CREATE])
async def test_the_time_zone_is_that_of_the_request_or_else_of_the_profile_or_else_utc(
    client: httpx2.AsyncClient, path: str
) -> None:
    """What somebody writes on a journey is not meant where they live; who never said anything is in UTC."""

    async def due(**said: str) -> str:
        answer = await client.post(path, json={"text": "call 15 jan 2031 9am", **said}, headers=ALICE)
        shown = answer.json()
        due_at: str = shown.get("draft", shown)["due_at"]
        return due_at

    assert await due() == "2031-01-15T09:00:00Z"
    home = await client.patch("/api/v1/users/me", json={"time_zone": "Asia/Tokyo"}, headers=ALICE)
    assert home.status_code == 200, home.text
    assert await due() == "2031-01-15T00:00:00Z"
    assert await due(time_zone="Europe/Paris") == "2031-01-15T08:00:00Z"
    assert await due(time_zone="UTC") == "2031-01-15T09:00:00Z"
    await client.patch("/api/v1/users/me", json={"time_zone": None}, headers=ALICE)
    assert await due() == "2031-01-15T09:00:00Z"


async def test_a_recurrence_goes_by_the_clock_of_the_profile(client: httpx2.AsyncClient) -> None:
    await client.patch("/api/v1/users/me", json={"time_zone": "Asia/Tokyo"}, headers=ALICE)
    made = await client.post(CREATE, json={"text": "stretch every day at 9am"}, headers=ALICE)
    assert made.json()["recurrence"]["time_zone"] == "Asia/Tokyo"


@pytest.mark.parametrize("path", [QUICK, CREATE])
@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"text": "x" * 501}, "text", "String should have at most 500 characters"),
        ({"text": " \u2003 "}, "text", "must not be blank"),
        ({"text": "a\x00b"}, "text", "must not contain NUL"),
        ({"text": 7}, "text", "Input should be a valid string"),
        ({}, "text", "Field required"),
        ({"text": "x", "time_zone": ""}, "time_zone", "must be the IANA name of a time zone"),
        ({"text": "x", "time_zone": "Mars/Olympus"}, "time_zone", "must be the IANA name of a time zone"),
        ({"text": "x", "title": "y"}, "title", "Extra inputs are not permitted"),
    ],
)
async def test_limits_are_named(
    client: httpx2.AsyncClient, path: str, body: dict[str, object], field: str, message: str
) -> None:
    refused = await client.post(path, json=body, headers=ALICE)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == field
    assert message in refused.json()["errors"][0]["message"]


@pytest.mark.parametrize("path", [QUICK, CREATE])
async def test_a_lone_surrogate_is_refused(client: httpx2.AsyncClient, path: str) -> None:
    content = b'{"text": "a \\ud800 b"}'
    refused = await client.post(path, content=content, headers=ALICE | {"Content-Type": "application/json"})
    assert refused.status_code == 422


@pytest.mark.parametrize("path", [QUICK, CREATE])
async def test_only_callers_who_are_known_may(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.post(path, json=LINE)).status_code == 401
