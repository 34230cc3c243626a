"""An identity provider that does not do its work, on real sockets, and what the breaker of `jwks` does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx2
import pytest
from fastapi import APIRouter
from jose import jws

from chassis.identity import CurrentUser
from chassis.identity.jwks import POLICY, JwksKeys
from chassis.identity.tokens import TokenAuthenticator, TokenVerifier
from chassis.outages import TIMEOUT, OutageOf, patient
from chassis.resilience import CallPolicy
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import AUDIENCE, ISSUER, NOBODYS_PORT, serving, settings_for
from devstack.breaker_clock import BreakerClock
from devstack.peers import Answer, drip, hang_up, peer_that, saying, silence

KEYS = b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "' + b"A" * 43 + b'"}]}'
TOKEN = jws.sign({"sub": "alice"}, "k" * 32, headers={"kid": "k"}, algorithm="HS256")
router = APIRouter()


@router.get("/me")
async def me(user: CurrentUser) -> str:
    return user.id


async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")


@asynccontextmanager
async def service_of(url: str, policy: CallPolicy) -> AsyncIterator[httpx2.AsyncClient]:
    """A service that takes its keys from there, when it is asked and not in the background."""
    settings = settings_for(ServiceSettings)
    app = create_service(settings, package="chassis", title="t", description="d", routers=[router])
    async with serving(app) as client, httpx2.AsyncClient(timeout=None) as http:
        keys = JwksKeys(url, http, policy=policy)
        verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, clock_skew=30)
        app.state.authenticators = [TokenAuthenticator(verifier)]
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


async def has_keys(client: httpx2.AsyncClient) -> bool:
    """Tell whether a token was looked at: it is for another algorithm than the key, so with keys it is refused."""
    response = await client.get("/api/v1/me")
    if response.status_code == 401:
        return True
    assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    return False


@pytest.fixture
def policy() -> CallPolicy:
    return patient(POLICY)


@pytest.mark.parametrize(
    ("answer", "outcome"), [(silence, TIMEOUT), (drip, TIMEOUT), (hang_up, "error"), (nonsense, "error")]
)
async def test_the_breaker_opens_refuses_tries_and_closes(
    answer: Answer, outcome: str, policy: CallPolicy, breaker_clock: BreakerClock
) -> None:
    outage = OutageOf(policy, breaker_clock)
    async with peer_that(answer) as peer, service_of(peer.url, policy) as client:
        ask_again = partial(has_keys, client)
        await outage.opens_the_breaker(ask_again, outcome)
        assert outcome == TIMEOUT or peer.connections == 5
        await outage.fails_a_trial(ask_again, outcome)
        peer.answer = saying(KEYS)
        await outage.closes_the_breaker(ask_again)
        assert outcome == TIMEOUT or peer.connections == 7


async def test_a_provider_that_is_not_there_is_tried_as_often(policy: CallPolicy, breaker_clock: BreakerClock) -> None:
    async with service_of(f"http://127.0.0.1:{NOBODYS_PORT}/jwks", policy) as client:
        await OutageOf(policy, breaker_clock).opens_the_breaker(partial(has_keys, client), "error")


async def test_many_requests_at_once_wait_for_one_fetch_and_share_its_failure(policy: CallPolicy) -> None:
    async with peer_that(hang_up) as peer, service_of(peer.url, policy) as client:
        # They come in one turn of the loop, so all of them wait before the fetch can have failed.
        responses = await asyncio.gather(*(client.get("/api/v1/me") for _ in range(10)))
        assert {response.status_code for response in responses} == {503}
        assert peer.connections == 2, "one fetch: the first try and its retry"
