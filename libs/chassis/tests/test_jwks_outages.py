"""An identity provider that does not do its work, on real sockets, and what the breaker of `jwks` does."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest
from fastapi import APIRouter
from jose import jws

from chassis.identity import CurrentUser
from chassis.identity.jwks import POLICY, JwksKeys
from chassis.identity.tokens import TokenAuthenticator, TokenVerifier
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import AUDIENCE, ISSUER, scrape, serving, settings_for
from devstack.peers import Answer, drip, hang_up, peer_that, saying, silence
from devstack.polling import within

PATIENCE = 90.0
QUICK = replace(POLICY, timeout=0.3, recovery_timeout=1.0, max_backoff=0.05)
KEYS = b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "' + b"A" * 43 + b'"}]}'
TOKEN = jws.sign({"sub": "alice"}, "k" * 32, headers={"kid": "k"}, algorithm="HS256")
router = APIRouter()


@router.get("/me")
async def me(user: CurrentUser) -> str:
    return user.id


async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")


@asynccontextmanager
async def service_of(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A service that takes its keys from there, when it is asked and not in the background."""
    settings = settings_for(ServiceSettings)
    app = create_service(settings, package="chassis", title="t", description="d", routers=[router])
    async with serving(app) as client, httpx2.AsyncClient(timeout=None) as http:
        keys = JwksKeys(url, http, policy=QUICK)
        verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, clock_skew=30)
        app.state.authenticators = [TokenAuthenticator(verifier)]
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


async def state(client: httpx2.AsyncClient) -> float:
    return await scrape(client, "taskwire_breaker_state", call="jwks")


async def calls(client: httpx2.AsyncClient, outcome: str) -> float:
    return await scrape(client, "taskwire_outbound_calls_total", call="jwks", outcome=outcome)


@pytest.mark.parametrize(
    ("answer", "outcome"), [(silence, "timeout"), (drip, "timeout"), (hang_up, "error"), (nonsense, "error")]
)
async def test_the_breaker_opens_refuses_tries_and_closes(answer: Answer, outcome: str) -> None:
    async with peer_that(answer) as peer, service_of(peer.url) as client:
        before = await calls(client, outcome)
        for request, tried in ((1, 2), (2, 4), (3, 5)):
            response = await client.get("/api/v1/me")
            assert (response.status_code, response.json()["code"]) == (503, "service_unavailable")
            assert int(response.headers["Retry-After"]) >= 1
            assert peer.connections == tried, f"two tries for a request, until the fifth failure: {request}"
        assert await calls(client, outcome) == before + 5
        assert await state(client) > 0

        async def is_refused() -> bool:
            asked = peer.connections
            assert (await client.get("/api/v1/me")).status_code == 503
            return peer.connections == asked

        assert await within(PATIENCE, is_refused, 0)
        assert await calls(client, "refused") > 0
        peer.answer = saying(KEYS)

        async def is_asked() -> bool:
            # The token is for another algorithm than the key: with keys 401, without them 503.
            return (await client.get("/api/v1/me")).status_code == 401

        assert await within(PATIENCE, is_asked, 0.05)
        assert await state(client) == 0


async def test_a_provider_that_is_not_there_is_tried_as_often() -> None:
    with socket.socket() as nobody:  # bound, so that nobody else gets the port, and not listening
        nobody.bind(("127.0.0.1", 0))
        await refused_by(f"http://127.0.0.1:{nobody.getsockname()[1]}/jwks")


async def refused_by(url: str) -> None:
    async with service_of(url) as client:
        before = await calls(client, "error")
        for _ in range(3):
            assert (await client.get("/api/v1/me")).status_code == 503
        assert await calls(client, "error") == before + 5
        assert await state(client) > 0


async def test_many_requests_at_once_wait_for_one_fetch_and_share_its_failure() -> None:
    async with peer_that(silence) as peer, service_of(peer.url) as client:
        responses = await asyncio.gather(*(client.get("/api/v1/me") for _ in range(10)))
        assert {response.status_code for response in responses} == {503}
        assert peer.connections == 2, "one fetch: the first try and its retry"
