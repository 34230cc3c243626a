"""A client that comes back when it is told to."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import httpx2
from typing_extensions import override

PATIENCE: Final = 90.0
"""Seconds after which something that must happen has not; far more than it takes, for slow machines."""

_UNAVAILABLE: Final = 503
_PAUSE: Final = 0.5


class ComingBack(httpx2.AsyncBaseTransport):
    """Sends a request again as long as it is answered 503, and hands on the last answer when that takes too long.

    A service that gets no answer of its database for some seconds says 503, and so it does where the whole machine
    stands still for as long: no test but those of outages is about that.
    """

    def __init__(self) -> None:
        # A connection for each request: one that was kept is closed by the server after 5 s, perhaps in the moment in
        # which a machine that stood still sends on it (docs/graceful-stop.md).
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(limits=limits)

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it until there is another answer than “come back”."""
        give_up = time.monotonic() + PATIENCE
        while True:
            response = await self._inner.handle_async_request(request)
            if response.status_code != _UNAVAILABLE or time.monotonic() > give_up:
                return response
            await response.aread()
            await response.aclose()
            await asyncio.sleep(_PAUSE)

    @override
    async def aclose(self) -> None:
        """Close its connections."""
        await self._inner.aclose()


def patient_client(headers: Mapping[str, str] | None = None, base_url: str = "") -> httpx2.AsyncClient:
    """Make a client that waits, and comes back, for as long as a slow machine may need."""
    return httpx2.AsyncClient(headers=headers, base_url=base_url, timeout=PATIENCE, transport=ComingBack())
