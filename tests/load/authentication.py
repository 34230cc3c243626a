"""What each kind of credential adds to a request; `make bench KIND=authentication`.

task-api on a PostgreSQL of its own, in process, with a route that does nothing but name its caller, and one that
anybody may ask. The kinds take turns, so that all meet the same machine. Prints; asserts nothing: no timed test.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from starlette.responses import JSONResponse

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.load.ed25519 import jwks_of, token_of
from tests.security.proxy import PROXY_KEYS, Signed

from chassis.identity import CurrentUser
from chassis.migrations import upgrade
from chassis.testing import AUDIENCE, ISSUER, bearer, listening, serving, settings_for
from devstack.throwaway import DatabaseFactory, ThrowawayPostgres
from task_api.app import create_app
from task_api.settings import TaskApiSettings

WARM_UP: Final = 50


@dataclass(frozen=True)
class Kind:
    """A kind of credential: who takes it, and how it is made, anew for each request and outside of the time."""

    client: httpx2.AsyncClient
    path: str
    headers: Callable[[], Mapping[str, str]]


@asynccontextmanager
async def kinds() -> AsyncIterator[dict[str, Kind]]:
    """Give every kind. Another one is one more line."""
    private = Ed25519PrivateKey.generate()
    provider = FastAPI()
    provider.add_api_route("/jwks", lambda: JSONResponse(jwks_of(private)))
    async with AsyncExitStack() as stack:
        factory = DatabaseFactory(stack.enter_context(ThrowawayPostgres()).server)
        url = await stack.enter_async_context(factory.fresh("task_api", lambda url: upgrade("task_api", url)))
        keys = await stack.enter_async_context(listening(provider))
        shared = await stack.enter_async_context(asking(url, proxy_keys=PROXY_KEYS))
        by_jwks = await stack.enter_async_context(asking(url, auth_hs256_secret=None, auth_jwks_url=f"{keys}/jwks"))
        token = token_of(private, ISSUER, AUDIENCE)
        made = await shared.post(
            "/api/v1/api-keys", json={"name": "bench", "scopes": ["tasks:read"]}, headers=bearer("alice")
        )
        key = {"Authorization": f"Bearer {made.json()['key']}"}
        yield {
            "none, an open route": Kind(shared, "/open", dict),
            "HS256, shared secret": Kind(shared, "/me", lambda: bearer("alice")),
            "EdDSA, JWKS": Kind(by_jwks, "/me", lambda: {"Authorization": f"Bearer {token}"}),
            "API key": Kind(shared, "/me", lambda: key),
            "HMAC, trusted proxy": Kind(shared, "/me", Signed(target="/me").headers),
        }


@asynccontextmanager
async def asking(url: str, **more: object) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve task-api with two routes that do nothing."""
    app = create_app(settings_for(TaskApiSettings, url, DAPR_HTTP_PORT=1, DAPR_GRPC_PORT=1, **more))

    async def anybody() -> str:
        return "anybody"

    async def me(user: CurrentUser) -> str:
        return user.id

    app.add_api_route("/open", anybody)
    app.add_api_route("/me", me)
    async with serving(app) as client:
        yield client


async def main(requests: int) -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with kinds() as asked:
        taken: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(WARM_UP + requests):
            for name, kind in asked.items():
                taken[name].append(await seconds_of(kind))
    medians = {name: statistics.median(times[WARM_UP:]) * 1000 for name, times in taken.items()}
    nothing = next(iter(medians.values()))
    sys.stdout.write(f"{f'{requests} requests of each kind':28}{'p50, ms':>10}{'added':>10}\n")
    for name, median in medians.items():
        sys.stdout.write(f"{name:28}{median:10.2f}{median - nothing:10.2f}\n")


async def seconds_of(kind: Kind) -> float:
    """Ask once."""
    headers = kind.headers()
    began = time.perf_counter()
    response = await kind.client.get(kind.path, headers=headers)
    taken = time.perf_counter() - began
    response.raise_for_status()
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500)
    asyncio.run(main(parser.parse_args().requests))
