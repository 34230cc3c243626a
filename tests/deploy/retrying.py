"""A client as every client should be: one Idempotency-Key per change, and the same again until there is an answer."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import httpx2
from typing_extensions import override

_TRY_AGAIN: Final = frozenset({409, 429, 502, 503, 504})
_CHANGES: Final = frozenset({"POST", "PATCH", "PUT", "DELETE"})
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
ONE_ATTEMPT: Final = 10.0
"""Seconds after which an attempt without an answer is given up."""

PATIENCE: Final = 90.0
"""Seconds after which a caller gives up; a machine with too much to do may need some of them."""


@dataclass
class Tally:
    """What the transport saw.

    Attributes:
        requests: Requests, each counted once however often it was sent.
        errors: Attempts that had no answer, or one that says to try again.
        retried: Requests that were sent more than once.
        failed: Requests that were given up.
        causes: How often each kind of error was.
    """

    requests: int = 0
    errors: int = 0
    retried: int = 0
    failed: int = 0
    causes: dict[str, int] = field(default_factory=dict)

    def note(self, cause: str) -> None:
        """Count an error."""
        self.errors += 1
        self.causes[cause] = self.causes.get(cause, 0) + 1


@dataclass
class RetryingTransport(httpx2.AsyncBaseTransport):
    """Sends a request again, under the same Idempotency-Key, for as long as a caller would wait for it.

    Attributes:
        tally: Where everything is counted.
        inner: Sends one attempt.
    """

    tally: Tally
    inner: httpx2.AsyncBaseTransport = field(default_factory=httpx2.AsyncHTTPTransport)

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it until an answer says what became of it.

        Raises:
            httpx2.TransportError: No attempt had an answer.
        """
        if request.method in _CHANGES:
            request.headers["Idempotency-Key"] = str(uuid.uuid4())
        self.tally.requests += 1
        pause, give_up = _FIRST_PAUSE, time.monotonic() + PATIENCE
        for attempt in count(1):
            self.tally.retried += attempt == 2
            late = time.monotonic() > give_up
            try:
                async with asyncio.timeout(ONE_ATTEMPT):
                    response = await self.inner.handle_async_request(request)
                    await response.aread()
            except (TimeoutError, OSError, httpx2.TransportError) as error:
                self.tally.note(type(error).__name__)
                if late:
                    self.tally.failed += 1
                    raise httpx2.TransportError(f"no answer after {attempt} attempts") from error
            else:
                if response.status_code not in _TRY_AGAIN:
                    return response
                self.tally.note(str(response.status_code))
                if late:
                    self.tally.failed += 1
                    return response
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
        raise AssertionError("counting never ends")

    @override
    async def aclose(self) -> None:
        """Close its connections."""
        await self.inner.aclose()
