"""A task-api that does not say what an API key is, on real sockets, and what the breaker of `introspection` does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx2
import pytest
from fastapi import APIRouter

from chassis.identity import CurrentUser
from chassis.identity.api_key_text import new_key_text
from chassis.identity.introspection import POLICY, IntrospectingAuthenticator
from chassis.outages import CLOSED, TIMEOUT, OutageOf, patient
from chassis.resilience import CallPolicy
from chassis.service import create_service
from chassis.settings import ConsumerSettings
from chassis.testing import NOBODYS_PORT, PATIENCE, serving, settings_for
from devstack.breaker_clock import BreakerClock
from devstack.peers import Answer, drip, hang_up, peer_that, saying, silence
from devstack.polling import within

YES = b'{"active": true, "client_id": "k", "sub": "alice", "scope": "tasks:read audit:read-all later:known"}'
router = APIRouter()


@router.get("/me")
async def me(user: CurrentUser) -> list[str]:
    return [user.id, *sorted(user.scopes or ()), *user.roles]


@asynccontextmanager
async def service_of(url: str, policy: CallPolicy) -> AsyncIterator[httpx2.AsyncClient]:
    """A service that asks there what keys are."""
    settings = settings_for(ConsumerSettings)
    app = create_service(settings, package="chassis", title="t", description="d", routers=[router])
    async with serving(app) as client, httpx2.AsyncClient(timeout=None) as http:
        app.state.authenticators.insert(0, IntrospectingAuthenticator(url, "s" * 32, http, policy=policy))
        yield client


@pytest.fixture
def policy() -> CallPolicy:
    return patient(POLICY)


async def ask(client: httpx2.AsyncClient, key: str | None = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key or new_key_text().text}"}
    return await client.get("/api/v1/me", headers=headers)


async def is_answered(client: httpx2.AsyncClient) -> bool:
    """Tell whether a key was taken; without an answer the caller is told to come back."""
    response = await ask(client)
    if response.status_code == 200:
        return True
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    return False


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (silence, TIMEOUT),
        (drip, TIMEOUT),
        (hang_up, "error"),
        (saying(b"", b"503 Service Unavailable"), "error"),
        (saying(b'{"active": "yes"}'), "error"),
        (saying(b'{"active": true, "client_id": "k", "scope": "tasks:read"}'), "error"),
        (saying(b" " * 20_000), "error"),
    ],
    ids=["silence", "drip", "hang up", "503", "not a boolean", "nobody's", "too large"],
)
async def test_the_breaker_opens_refuses_tries_and_closes(
    answer: Answer, outcome: str, policy: CallPolicy, breaker_clock: BreakerClock
) -> None:
    outage = OutageOf(policy, breaker_clock)
    async with peer_that(answer) as peer, service_of(peer.url, policy) as client:
        ask_again = partial(is_answered, client)
        await outage.opens_the_breaker(ask_again, outcome)
        assert outcome == TIMEOUT or peer.connections == 5
        await outage.fails_a_trial(ask_again, outcome)
        peer.answer = saying(YES)
        await outage.closes_the_breaker(ask_again)
        assert outcome == TIMEOUT or peer.connections == 7


async def test_a_task_api_that_is_not_there_is_tried_as_often(policy: CallPolicy, breaker_clock: BreakerClock) -> None:
    async with service_of(f"http://127.0.0.1:{NOBODYS_PORT}/introspect", policy) as client:
        await OutageOf(policy, breaker_clock).opens_the_breaker(partial(is_answered, client), "error")


async def test_a_wrong_secret_is_told_from_a_wrong_key_and_neither_repeated_nor_held_against_task_api(
    policy: CallPolicy, breaker_clock: BreakerClock
) -> None:
    async with peer_that(saying(b"", b"401 Unauthorized")) as peer, service_of(peer.url, policy) as client:
        for tried in range(1, 8):
            assert (await ask(client)).status_code == 503
            assert peer.connections == tried
        assert OutageOf(policy, breaker_clock).state == CLOSED


async def test_no_redirect_is_followed_with_a_key(policy: CallPolicy) -> None:
    async with peer_that(saying(YES)) as elsewhere:
        away = saying(b"", b"307 Temporary Redirect", b"Location: " + elsewhere.url.encode() + b"\r\n")
        async with peer_that(away) as peer, service_of(peer.url, policy) as client:
            assert (await ask(client)).status_code == 503
        assert elsewhere.connections == 0


async def test_who_comes_at_once_with_one_key_waits_for_one_answer_and_one_who_leaves_takes_it_from_nobody(
    policy: CallPolicy,
) -> None:
    go = asyncio.Event()

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await saying(YES)(reader, writer)

    async with peer_that(slowly) as peer, httpx2.AsyncClient(timeout=None) as http:
        asking = IntrospectingAuthenticator(peer.url, "s" * 32, http, policy=policy)
        key, request = new_key_text().text, object()
        waiting = [asyncio.create_task(asking.authenticate(request, key)) for _ in range(10)]  # type: ignore[arg-type]

        async def is_asked() -> bool:
            return peer.connections == 1

        assert await within(PATIENCE, is_asked, 0.01)
        waiting[0].cancel()
        await asyncio.sleep(0)
        go.set()
        principals = await asyncio.gather(*waiting[1:])
        assert {principal.id for principal in principals} == {"alice"}
        assert peer.connections == 1


async def test_an_answer_gives_no_role_and_no_scope_that_keys_do_not_have(policy: CallPolicy) -> None:
    async with peer_that(saying(YES)) as peer, service_of(peer.url, policy) as client:
        assert (await ask(client)).json() == ["alice", "tasks:read"]


async def test_answers_are_kept_for_seconds_by_their_kind_and_never_for_longer_than_the_key_holds(
    policy: CallPolicy,
) -> None:
    now = [0.0]
    async with peer_that(saying(YES)) as peer, httpx2.AsyncClient(timeout=None) as http:
        asking = IntrospectingAuthenticator(peer.url, "s" * 32, http, clock=lambda: now[0], policy=policy)
        app = create_service(
            settings_for(ConsumerSettings), package="chassis", title="t", description="d", routers=[router]
        )
        async with serving(app) as client:
            app.state.authenticators.insert(0, asking)
            key = new_key_text().text

            async def status_and_calls() -> tuple[int, int]:
                return (await ask(client, key)).status_code, peer.connections

            assert await status_and_calls() == (200, 1)
            peer.answer = saying(b'{"active": false}')
            now[0] = 4.9
            assert await status_and_calls() == (200, 1), "revoked, and not yet known here"
            now[0] = 5.1
            assert await status_and_calls() == (401, 2)
            peer.answer = saying(YES[:-1] + b', "exp": 1}')
            now[0] = 7.0
            assert await status_and_calls() == (401, 2)
            now[0] = 7.2
            assert await status_and_calls() == (401, 3), "expired, whatever else the answer says"
            assert (await ask(client, key[:-1] + "!")).status_code == 401
            assert peer.connections == 3, "a mistyped key asks nobody"
