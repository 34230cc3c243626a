"""A bound on how slowly a body may arrive.

uvicorn waits for ever for the rest of a body. Time alone would refuse who has a large file and a slow line, and any
byte counted as progress would let a client hold a connection for days; so each span of time must bring some.
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.errors import problem_response
from chassis.limits import answer_and_linger

PROGRESS_BYTES: Final = 1_024


class SlowBodyMiddleware:
    """Answers 408 in the place of a request whose body has stalled."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        """Say how long to wait.

        Args:
            app: What comes after.
            seconds: In each span of this many, `PROGRESS_BYTES` of the body or its end must arrive.
        """
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _TimedBody(receive, send, self._seconds)
        with suppress(_StalledError):
            await self._app(scope, body.receive, body.send)
        if body.stalled and not body.responding:
            detail = f"Less than {PROGRESS_BYTES} bytes of the body arrived in {self._seconds:g} seconds."
            response = problem_response(408, "upload_stalled", detail, headers={"Connection": "close"})
            await answer_and_linger(response, scope, receive, send)


class _StalledError(Exception):
    pass


class _TimedBody:
    """Times the wait for a body; once it has stalled, nothing the application answers gets out any more.

    Only waiting counts: an application that takes its time between two pieces uses up nothing.
    """

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        self._receive, self._send, self._seconds = receive, send, seconds
        self._left, self._missing = seconds, PROGRESS_BYTES
        self._complete = False
        self.stalled = self.responding = False

    async def receive(self) -> Message:
        if self._complete:  # from here on it waits for the client to go away, which may take as long as it likes
            return await self._receive()
        if self.stalled:
            raise _StalledError
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            self.stalled = True
            raise _StalledError from None
        self._left -= loop.time() - began
        self._count(message)
        return message

    def _count(self, message: Message) -> None:
        self._complete = message["type"] != "http.request" or not message.get("more_body")
        self._missing -= len(message.get("body", b""))
        if self._missing <= 0:
            self._left, self._missing = self._seconds, PROGRESS_BYTES

    async def send(self, message: Message) -> None:
        if self.stalled and not self.responding:
            return
        self.responding = True
        await self._send(message)
