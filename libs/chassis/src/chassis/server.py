"""Serving HTTP until somebody asks for an end, and ending so that no request goes without its answer.

uvicorn does most of it: it stops listening, lets what it serves finish and closes the application. What it leaves
open, this module adds: connections the kernel has taken and nobody has looked at yet, requests that arrive on a
connection just as it is closed, those that outlast the grace period, and an exit code that says "in good order".
"""

import asyncio
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from chassis.errors import problem_response
from chassis.health import NotReadyError
from chassis.http_protocol import protocol
from chassis.logging import get_logger
from chassis.metrics import route_of
from chassis.request_heads import MAX_INCOMPLETE_HEAD_BYTES
from chassis.settings import ServiceSettings

_FAREWELL: Final = 0.5
"""Seconds in which a connection that is kept alive may bring one more request, and is told to close by its answer."""
_TICK: Final = 0.1
_DATE_INTERVAL: Final = 1.0
_LOOKS: Final = 1_000
_QUIET_LOOKS: Final = 2
"""asyncio makes a transport of a connection one turn of its loop after it was accepted, and needs the listener then."""
_CUT_OFF_TIMEOUT: Final = 2.0

_logger = get_logger(__name__)


class OpenRequests:
    """Counts the requests being served, so that what they need is closed after them."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def began(self) -> None:
        """Note one more."""
        self._count += 1
        self._none.clear()

    def ended(self) -> None:
        """Note one less."""
        self._count -= 1
        if not self._count:
            self._none.set()

    async def all_ended(self) -> None:
        """Wait for those that uvicorn has just cancelled, which takes a moment; for nothing else is any left."""
        try:
            async with asyncio.timeout(_CUT_OFF_TIMEOUT):
                await self._none.wait()
        except TimeoutError:
            _logger.warning("requests are still open", requests=self._count)


class CutOffMiddleware:
    """Answers 503 in the place of a request that outlasted the grace period; uvicorn would make it a bare 500."""

    def __init__(self, app: ASGIApp, *, requests: OpenRequests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answering = False

        async def send_and_note(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        self._requests.began()
        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:  # by uvicorn, at the end of the grace period; nobody else cancels requests
            if answering:
                raise
            # The route, not the path: a path may hold a credential.
            _logger.warning("request cut off", method=scope["method"], route=route_of(scope))
            detail = "The service is stopping and could not finish this request in time; it may have had an effect."
            headers = {"Retry-After": "1", "Connection": "close"}
            await problem_response(503, "stopping", detail, headers=headers)(scope, receive, send)
        finally:
            self._requests.ended()


class GracefulServer(uvicorn.Server):
    """uvicorn, ending in steps: not ready any more, then not listening, then no connections, then no application."""

    def __init__(self, app: FastAPI, settings: ServiceSettings) -> None:
        """Prepare to serve an application of `create_service` as its settings say."""
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_grace,
            http=protocol(head_timeout=settings.head_timeout),
            h11_max_incomplete_event_size=MAX_INCOMPLETE_HEAD_BYTES,
            ws="none",
            # uvicorn believes every process of this host by default, and what FORWARDED_ALLOW_IPS says;
            # chassis.client_address believes those in the settings.
            proxy_headers=False,
        )
        super().__init__(config)
        self._app = app
        self._drain_delay = settings.drain_delay
        self._send_timeout = settings.send_timeout

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; connections inherit how long a client may take nothing of what it is sent (RFC 5482).

        Only the kernel can end such a connection: the application waits for room in a buffer that nobody empties, and
        closing the connection would wait for the same.
        """
        await super().startup(sockets)
        if sys.platform == "linux":
            for server in self.servers:
                for sock in server.sockets:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._send_timeout * 1000)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End serving; a second Ctrl-C skips every wait."""
        _logger.info("draining", seconds=self._drain_delay)
        self._app.state.readiness["process"] = _is_stopping
        # In every answer from now on: whoever keeps a connection shall come back on another, and so elsewhere.
        self.config.encoded_headers.append((b"connection", b"close"))
        await self._serve_on(self._drain_delay)
        for end in self._app.state.at_stop:  # what would not end by itself: open streams
            end()
        await self._stop_listening()
        await self._serve_on(_FAREWELL, while_connected=True)
        await super().shutdown(sockets)

    async def _serve_on(self, seconds: float, *, while_connected: bool = False) -> None:
        loop = asyncio.get_running_loop()
        end, refresh = loop.time() + seconds, float("-inf")
        while not self.force_exit and loop.time() < end and (self.server_state.connections or not while_connected):
            if loop.time() >= refresh:
                await self.on_tick(0)  # puts together the headers of all answers, the date among them
                refresh = loop.time() + _DATE_INTERVAL
            await asyncio.sleep(min(_TICK, max(0.0, end - loop.time())))

    async def _stop_listening(self) -> None:
        """Close the listeners once nobody waits at them: the kernel resets connections that were not accepted."""
        waiting = select.poll()
        for server in self.servers:
            for sock in server.sockets:
                waiting.register(sock.fileno(), select.POLLIN)
        quiet = 0
        for _ in range(_LOOKS):
            quiet = 0 if waiting.poll(0) else quiet + 1
            if quiet == _QUIET_LOOKS:
                break
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()


async def _is_stopping() -> None:
    raise NotReadyError("stopping")


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT, and return when all is answered and closed."""
    # uvicorn raises the signals it has handled once more at its end, for whoever had a handler before. By default
    # SIGTERM would then kill this process before it has sent its last spans, and say that it was killed.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        GracefulServer(app, settings).run()
