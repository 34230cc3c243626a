"""A member of an engagement is erased: the others lose nothing of what waits among the dead letters."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from audit_worker.trail.service import TrailData
from chassis.correlation import new_id
from chassis.database import DatabaseUnavailableError
from chassis.erased_subjects import ErasedSubjects
from chassis.erasure import Erasure
from chassis.testing import HS256_SECRET, bearer, deliver, make_task_event, post_dead_letter
from task_events import ErasureRequested, ErasureRequestedData, TaskEvent

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
ALICE = "alice-7f3a"
ADMIN = bearer("olga", "admin")


class Published:
    """Takes what is published."""

    open_for = 0.0

    async def publish(self, events: object) -> None:
        """Take it."""


@pytest.fixture
def erasure(app: FastAPI) -> Erasure:
    subjects = ErasedSubjects(HS256_SECRET.encode())
    return Erasure("audit-worker", app.state.database, subjects, TrailData(), Published())


async def erase(erasure: Erasure, user: str, *engagements: int) -> None:
    now = datetime.now(UTC)
    data = ErasureRequestedData(erasure_id="e-1", corr_id="c-1", requested_at=now, attempt=1, engagements=engagements)
    event = ErasureRequested(id=new_id(), source="/taskwire/task-api", subject=user, time=now, data=data)
    await erasure.handle(event)


def shared_event(task_id: int, *, actor_id: str) -> TaskEvent:
    members = ("bob", ALICE, "carol")
    return make_task_event(task_id, owner_id="engagement:5", engagement_id=5, actor_id=actor_id, recipients=members)


async def bodies(database: Database) -> list[tuple[str, str]]:
    rows = await database.fetch("SELECT status, convert_from(body, 'UTF8') FROM dead_letters ORDER BY id")
    return [(status, body) for status, body in rows]


@pytest.mark.parametrize("before", [True, False], ids=["kept before the erasure", "after it"])
async def test_a_letter_of_an_engagement_loses_the_name_and_stays_open(
    client: httpx2.AsyncClient, database: Database, erasure: Erasure, before: bool
) -> None:
    if not before:
        await erase(erasure, ALICE)
    for task_id, actor in ((1, ALICE), (2, "bob")):
        assert (await post_dead_letter(client, shared_event(task_id, actor_id=actor), offset=task_id)).is_success
    if before:
        assert all(ALICE in body for _, body in await bodies(database))
        await erase(erasure, ALICE)
    letters = await bodies(database)
    assert [status for status, _ in letters] == ["open"] * 2
    assert not any(ALICE in body for _, body in letters)
    assert [json.loads(body)["data"]["actor"]["id"] for _, body in letters] == ["erased", "bob"]
    assert [json.loads(body)["data"]["recipients"] for _, body in letters] == [["bob", "carol"]] * 2
    redriven = await client.post("/api/v1/dead-letters/redrive", json={}, headers=ADMIN)
    assert [item["verdict"] for item in redriven.json()["items"]] == ["fresh"] * 2, redriven.text
    entries = (await client.get("/api/v1/audit/entries", headers=ADMIN)).json()["items"]
    assert [(e["owner_id"], e["actor"], e["task"]["title"]) for e in entries] == [
        ("engagement:5", "erased", "Buy milk"),
        ("engagement:5", "bob", "Buy milk"),
    ]


async def test_a_record_that_is_delivered_again_is_one_letter_without_the_name_too(
    client: httpx2.AsyncClient, database: Database, erasure: Erasure
) -> None:
    event = shared_event(1, actor_id="bob")
    await post_dead_letter(client, event, offset=7)
    await erase(erasure, ALICE)
    for _ in range(2):
        assert (await post_dead_letter(client, event, offset=7)).json() == {"status": "SUCCESS"}
    ((status, body),) = await bodies(database)
    assert (status, ALICE in body) == ("open", False)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"data": {"recipients": ["bob", ALICE]}}).encode(),
        b'{"data": {"task": {"owner_id": "' + ALICE.encode() + b'", "title": "cut o',
        b'a quote " too many, then "' + ALICE.encode() + b'"',
        json.dumps({"who": ALICE}).encode().replace(b"-", b"\\u002d"),
    ],
)
async def test_what_cannot_be_read_and_names_the_erased_is_not_kept_after_the_erasure_either(
    client: httpx2.AsyncClient, database: Database, erasure: Erasure, body: bytes
) -> None:
    await erase(erasure, ALICE)
    await post_dead_letter(client, body, offset=1)
    await post_dead_letter(client, body.replace(b"alice", b"arlene"), offset=2)
    ((status, kept),) = await bodies(database)
    assert (status, "arlene" in kept) == ("open", True)


async def test_what_is_in_an_engagement_that_ends_with_the_user_goes_as_what_is_theirs(
    client: httpx2.AsyncClient, database: Database, erasure: Erasure
) -> None:
    others = make_task_event(2, owner_id="engagement:6", engagement_id=6, actor_id=ALICE, recipients=(ALICE, "bob"))
    await deliver(client, shared_event(1, actor_id="dave, who has left"), others)
    await post_dead_letter(client, shared_event(3, actor_id="dave, who has left"))
    await erase(erasure, ALICE, 5)
    late = make_task_event(1, 2, owner_id="engagement:5", engagement_id=5, actor_id=ALICE, recipients=())
    await deliver(client, late)
    entries = (await client.get("/api/v1/audit/entries", headers=ADMIN)).json()["items"]
    assert [(e["owner_id"], e["actor"], e["task"].get("title")) for e in entries] == [
        ("erased", "erased", None),
        ("engagement:6", "erased", "Buy milk"),
        ("erased", "erased", None),
    ]
    assert await bodies(database) == [("discarded", "")]


async def test_however_many_letters_there_are_each_delivery_of_the_request_gets_further(
    client: httpx2.AsyncClient, database: Database, erasure: Erasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for one delivery is over after each part; nothing of what was done is done again."""
    for number in range(7):
        await post_dead_letter(
            client, make_task_event(number + 1, owner_id=ALICE if number % 2 else "bob"), offset=number
        )
    monkeypatch.setattr("chassis.dead_letters.erasing._PAGE", 2)
    blanked = 0

    def time_is_over_after_two(size: int) -> bytes:
        nonlocal blanked
        blanked += 1
        if blanked % 3 == 0:
            raise TimeoutError
        return os.urandom(size)

    monkeypatch.setattr("chassis.dead_letters.erasing.secrets.token_bytes", time_is_over_after_two)
    for _ in range(5):
        with suppress(TimeoutError, DatabaseUnavailableError):
            await erase(erasure, ALICE)
            break
    else:
        pytest.fail("it never ends")
    letters = await bodies(database)
    assert [(status, ALICE in body) for status, body in letters] == [("open", False), ("discarded", False)] * 3 + [
        ("open", False)
    ]
