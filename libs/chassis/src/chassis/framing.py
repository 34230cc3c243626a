"""Requests whose end is a matter of opinion: what one server takes for a body, another takes for the next request.

The parser goes by `Transfer-Encoding` when both are there, and keeps the connection. A proxy that goes by
`Content-Length` would then hand a request that somebody hid in a body to the next caller's connection (RFC 9112,
sections 6.1 and 11.2).
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.errors import problem_response

_DETAIL = "Send either Content-Length or Transfer-Encoding, not both."


class FramingMiddleware:
    """Refuses requests that say in two ways where they end, and closes their connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        names = {name for name, _ in scope["headers"]} if scope["type"] == "http" else set()
        if {b"content-length", b"transfer-encoding"} <= names:
            refusal = problem_response(400, "ambiguous_length", _DETAIL, headers={"Connection": "close"})
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
