"""HEAD, OPTIONS and the `Allow` header, for every path of a service (RFC 9110, sections 9.3 and 10.2.1).

The router knows routes, and a path may be several of them: by itself it names the methods of the first one only,
and answers HEAD with 405 although it has a GET. What a path allows is asked of the routes themselves.
"""

from collections.abc import Iterable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ASKED: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Give every method that the path of a request takes, in alphabetical order; none where there is nothing."""
    found = {method for method in _ASKED if _serves(routes, scope, method)}
    if "GET" in found:
        found.add("HEAD")
    return sorted(found | {"OPTIONS"}) if found else []


def allow_header(routes: Iterable[BaseRoute], scope: Scope) -> dict[str, str]:
    """Make the header that belongs to an answer about methods."""
    return {"Allow": ", ".join(allowed_methods(routes, scope))}


def _serves(routes: Iterable[BaseRoute], scope: Scope, method: str) -> bool:
    question = dict(scope, method=method)
    return any(route.matches(question)[0] is Match.FULL for route in routes)


class _AnsweredError(OSError):
    """Nobody wants the rest of a body; streams end on an OSError, as they do when a client has gone."""


class MethodsMiddleware:
    """Answers HEAD as its GET without the body, and OPTIONS with what the path allows."""

    def __init__(self, app: ASGIApp, *, routes: list[BaseRoute]) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        method = scope["method"] if scope["type"] == "http" else None
        if method == "HEAD":
            await self._head(scope, receive, send)
        elif method == "OPTIONS" and allowed_methods(self._routes, scope):
            await Response(status_code=204, headers=allow_header(self._routes, scope))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _serves(self._routes, scope, "GET"):
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({"type": "http.response.body", "body": b""})
            if message.get("more_body"):
                raise _AnsweredError

        # A copy: the server must go on seeing HEAD, or it would wait for the body that Content-Length announces.
        get = dict(scope, method="GET")
        try:
            await self._app(get, receive, send_without_body)
        except (_AnsweredError, ClientDisconnect):
            pass
        finally:
            if "route" in get:
                scope["route"] = get["route"]  # metrics and logs name it
