"""What caches may do with answers: everything under `/api/` is somebody's, and may have changed since."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFIX: Final = "/api/"


class PrivateCacheMiddleware:
    """Lets only the caller's own cache keep an answer, and only to ask each time whether it still holds.

    A route that knows better sets its own `Cache-Control`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "private, no-cache")
                headers.add_vary_header("Authorization")
            await send(message)

        await self._app(scope, receive, send_with_headers)
