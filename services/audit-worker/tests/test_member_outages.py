"""A task-api that does not say who is a member, on real sockets: nothing is read, and nothing it said is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail import members
from chassis.outages import CLOSED, TIMEOUT, OutageOf, patient
from chassis.paths import INTROSPECTION_PATH, MEMBERSHIP_PATH
from chassis.resilience import CallPolicy
from chassis.testing import NOBODYS_PORT, PATIENCE, bearer, deliver_until_taken, make_task_event, serving, settings_for
from devstack.breaker_clock import BreakerClock
from devstack.peers import Answer, drip, hang_up, peer_that, saying, silence
from devstack.polling import within
from task_events import TaskEvent

ENTRIES = "/api/v1/audit/entries"
MEMBER = b'{"found": true, "may": ["read"]}'
STRANGER = b'{"found": true, "may": []}'


@asynccontextmanager
async def asking(database_url: str, address: str | None) -> AsyncIterator[httpx2.AsyncClient]:
    """The service, which asks there, with one entry of engagement 5 and one of alice's own."""
    told = {"introspection_url": f"{address}{INTROSPECTION_PATH}", "introspection_secret": "s" * 32} if address else {}
    app: FastAPI = create_app(settings_for(AuditWorkerSettings, database_url, **told))
    async with serving(app) as client:
        for event in (of_engagement(1), make_task_event(2)):  # in this order, whoever is told to come again
            await deliver_until_taken(client, event)
        yield client


def of_engagement(task_id: int) -> TaskEvent:
    return make_task_event(task_id, owner_id="engagement:5", engagement_id=5, actor_id="bob", recipients=("bob",))


async def read(client: httpx2.AsyncClient, *roles: str, query: str = "engagement_id=5") -> httpx2.Response:
    return await client.get(f"{ENTRIES}?{query}", headers=bearer("alice", *roles))


def sequences(response: httpx2.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [item["sequence"] for item in response.json()["items"]]


def is_unknown(response: httpx2.Response) -> bool:
    assert (response.status_code, response.json()["code"]) == (503, "membership_unknown"), response.text
    return int(response.headers["Retry-After"]) >= 1 and "items" not in response.json()


@pytest.fixture(autouse=True)
def policy(monkeypatch: pytest.MonkeyPatch) -> CallPolicy:
    """How members are asked for here: no machine is too slow for an answer."""
    made = patient(members.POLICY)
    monkeypatch.setattr(members, "POLICY", made)
    return made


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (silence, TIMEOUT),
        (drip, TIMEOUT),
        (hang_up, "error"),
        (saying(MEMBER, b"503 Service Unavailable"), "error"),
        (saying(b'{"found": "yes", "may": ["read"]}'), "error"),
        (saying(b'{"found": true, "may": "read"}'), "error"),
        (saying(b'{"found": true}'), "error"),
        (saying(b'["read"]'), "error"),
        (saying(b" " * 20_000), "error"),
    ],
    ids=[
        "silence",
        "drip",
        "hang up",
        "503",
        "not a boolean",
        "not a list",
        "half of it",
        "not an object",
        "too large",
    ],
)
async def test_without_an_answer_nothing_is_read_and_the_breaker_opens_tries_and_closes(
    database_url: str, answer: Answer, outcome: str, policy: CallPolicy, breaker_clock: BreakerClock
) -> None:
    outage = OutageOf(policy, breaker_clock)
    async with peer_that(answer) as peer, asking(database_url, peer.url) as client:

        async def is_answered() -> bool:
            response = await read(client)
            return response.status_code == 200 or not is_unknown(response)

        await outage.opens_the_breaker(is_answered, outcome)
        assert outcome == TIMEOUT or peer.connections == 5
        assert sequences(await read(client, "auditor")) == [1]
        assert sequences(await read(client, query="")) == [2], "one's own list waits for nobody"
        await outage.fails_a_trial(is_answered, outcome)
        peer.answer = saying(MEMBER)
        await outage.closes_the_breaker(is_answered)
        assert outcome == TIMEOUT or peer.connections == 7


async def test_a_task_api_that_is_not_there_opens_nothing(database_url: str) -> None:
    async with asking(database_url, f"http://127.0.0.1:{NOBODYS_PORT}") as client:
        assert is_unknown(await read(client))
        assert sequences(await read(client, "admin")) == [1]


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"404 Not Found"], ids=["another secret", "an older task-api"])
async def test_a_refusal_is_no_answer_and_neither_repeated_nor_held_against_task_api(
    database_url: str, status: bytes, policy: CallPolicy, breaker_clock: BreakerClock
) -> None:
    async with peer_that(saying(MEMBER, status)) as peer, asking(database_url, peer.url) as client:
        for tried in range(1, 8):
            assert is_unknown(await read(client))
            assert peer.connections == tried
        assert OutageOf(policy, breaker_clock).state == CLOSED


async def test_no_redirect_is_followed_with_the_secret(database_url: str) -> None:
    async with peer_that(saying(MEMBER)) as elsewhere:
        away = saying(b"", b"307 Temporary Redirect", b"Location: " + elsewhere.url.encode() + b"\r\n")
        async with peer_that(away) as peer, asking(database_url, peer.url) as client:
            assert is_unknown(await read(client))
        assert elsewhere.connections == 0


async def test_every_page_asks_and_no_answer_is_kept(database_url: str) -> None:
    async with peer_that(saying(MEMBER)) as peer, asking(database_url, peer.url) as client:
        for tried in (1, 2):
            assert sequences(await read(client)) == [1]
            assert peer.connections == tried
        peer.answer = saying(STRANGER)
        assert (await read(client)).status_code == 403
        peer.answer = saying(MEMBER)
        assert sequences(await read(client)) == [1]
        assert peer.connections == 4
        await read(client, "auditor")
        await read(client, query="")
        await read(client, query="engagement_id=5&cursor=nonsense")
        assert peer.connections == 4, "asked for members' pages alone"


async def test_the_question_names_who_asks_and_goes_beside_the_introspection(database_url: str) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"engagement_id=5&user_id=alice"))
        await saying_at_once(writer)

    async def saying_at_once(writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(MEMBER)
        writer.write(head + MEMBER)

    async with peer_that(listen) as peer, asking(database_url, peer.url + "/behind/a/prefix") as client:
        assert sequences(await read(client)) == [1]
    assert heard[0].startswith(b"POST /behind/a/prefix" + MEMBERSHIP_PATH.encode() + b" HTTP/1.1\r\n")
    assert b"authorization: bearer " + b"s" * 32 in heard[0].lower()


async def test_what_is_recorded_while_it_asks_is_not_on_the_page(database_url: str) -> None:
    """It may be of a change after the removal, which the answer does not know of."""
    async with peer_that(silence) as peer, asking(database_url, peer.url) as client:

        async def record_and_say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await deliver_until_taken(client, of_engagement(3))
            await saying(MEMBER)(reader, writer)

        peer.answer = record_and_say
        page = await read(client, query="engagement_id=5&total=true")
        assert (sequences(page), page.json()["total"]) == ([1], 1)
        peer.answer = saying(MEMBER)
        assert sequences(await read(client)) == [1, 3]


async def test_while_it_asks_no_connection_to_the_database_is_held(database_url: str) -> None:
    """Or a task-api that says nothing would keep events from being recorded."""
    go, one = asyncio.Event(), {"database_pool_size": 1, "database_pool_overflow": 0}

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await saying(MEMBER)(reader, writer)

    async with peer_that(wait) as peer:
        told = {"introspection_url": peer.url + INTROSPECTION_PATH, "introspection_secret": "s" * 32}
        async with serving(create_app(settings_for(AuditWorkerSettings, database_url, **told, **one))) as client:
            page = asyncio.create_task(read(client))

            async def is_asked() -> bool:
                return peer.connections >= 1

            assert await within(PATIENCE, is_asked, 0.01)
            async with asyncio.timeout(PATIENCE / 2):  # less than the question and the pool may take
                await deliver_until_taken(client, make_task_event(7))
            assert not page.done(), "it still asks, and the event was recorded meanwhile"
            go.set()
            assert sequences(await page) == []


async def test_a_service_that_is_not_told_whom_to_ask_reads_engagements_to_auditors_alone(database_url: str) -> None:
    async with asking(database_url, None) as client:
        refused = await read(client)
        assert (refused.status_code, refused.json()["code"]) == (403, "engagement_forbidden")
        assert sequences(await read(client, "auditor")) == [1]
        assert sequences(await read(client, query="")) == [2]
