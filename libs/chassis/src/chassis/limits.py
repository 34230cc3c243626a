"""Limits on what a request may bring.

FastAPI's own `max_body_size` is not used: once `Content-Length` is over the limit it replaces whatever we
answer by plain text, and every error here has one shape.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.errors import problem_response

MAX_EVENTS_PER_DELIVERY: Final = 100
"""Events that the sidecar may deliver in one call."""

EVENT_BODY_BYTES: Final = MAX_EVENTS_PER_DELIVERY * 1536 * 1024
"""What the sidecar may deliver in one call: Kafka's own limit for a record is 1 MiB, base64 adds a third, headers
come on top. Nothing is read before the sidecar has shown its token. A smaller limit would refuse a whole batch again
and again for its size, and at the end put healthy events into the dead-letter topic."""


_LINGER_BYTES: Final = 32 * 1024 * 1024
_LINGER_SECONDS: Final = 5.0
"""How much of a body that is too large is taken, and thrown away, so that its sender gets to read why."""


class BodyLimitMiddleware:
    """Refuses bodies over a limit with 413, by `Content-Length` and by counting what really arrives."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, of_paths: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes, self._of_paths = max_bytes, dict(of_paths or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        if _declared_size(scope) > limit:
            await _refuse(limit, scope, receive, send)
            return
        counted = _CountedBody(receive, send, limit)
        with suppress(_LimitExceededError):
            await self._app(scope, counted.receive, counted.send)
        if counted.exceeded and not counted.responding:
            await _refuse(limit, scope, receive, send)

    def _limit(self, path: str) -> int:
        return EVENT_BODY_BYTES if path.startswith("/events/") else self._of_paths.get(path, self._max_bytes)


class _LimitExceededError(Exception):
    pass


class _CountedBody:
    """Counts a body while it is read; past the limit nothing the application answers gets out any more.

    The framework turns an error while reading into an answer of its own, so the error alone is not enough.
    """

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._left = receive, send, limit
        self.responding = False

    @property
    def exceeded(self) -> bool:
        return self._left < 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self.exceeded:
            raise _LimitExceededError
        return message

    async def send(self, message: Message) -> None:
        if self.exceeded and not self.responding:
            return
        self.responding = True
        await self._send(message)


def _declared_size(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"The body is larger than {limit} bytes."
    response = problem_response(413, "body_too_large", detail, headers={"Connection": "close"})
    await answer_and_linger(response, scope, receive, send)


async def answer_and_linger(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and take what is still on its way: else the kernel resets the connection, and the answer is lost."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
    if b"expect" not in dict(scope["headers"]):  # who asked first has sent nothing yet, and will not
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await _discard(receive)
    await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    left = _LINGER_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return
