"""HEAD, OPTIONS and the `Allow` header, for every path of a service (RFC 9110, sections 9.3 and 10.2.1).

The router knows routes, and a path may be several of them: by itself it names the methods of the first one only,
and answers HEAD with 405 although it has a GET. What a path allows is asked of the routes themselves.

A path that is written out is that path only, as OpenAPI has it ("concrete before templated"): `/tasks/bulk` is no task
with the id `bulk`, so what it does not take is a 405 and no complaint about an id.
"""

from collections.abc import Callable, Sequence
from typing import Final

from fastapi.routing import iter_route_contexts
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Refuse = Callable[[Scope], Response]

_ASKED: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")


def allowed_methods(routes: Sequence[BaseRoute], scope: Scope) -> list[str]:
    """Give every method that the path of a request takes, in alphabetical order; none where there is nothing."""
    found = _written_out(routes).get(scope["path"]) or {method for method in _ASKED if _serves(routes, scope, method)}
    if "GET" in found:
        found.add("HEAD")
    return sorted(found | {"OPTIONS"}) if found else []


def allow_header(routes: Sequence[BaseRoute], scope: Scope) -> dict[str, str]:
    """Make the header that belongs to an answer about methods."""
    return {"Allow": ", ".join(allowed_methods(routes, scope))}


def _written_out(routes: Sequence[BaseRoute]) -> dict[str, set[str]]:
    """Give the paths without parameters, each with its methods."""
    found: dict[str, set[str]] = {}
    for context in iter_route_contexts(routes):
        path = str(context.path)
        if "{" not in path:
            found.setdefault(path, set()).update((context.methods or set()) - {"HEAD"})
    return found


def _serves(routes: Sequence[BaseRoute], scope: Scope, method: str) -> bool:
    question = dict(scope, method=method)
    return any(route.matches(question)[0] is Match.FULL for route in routes)


class _AnsweredError(OSError):
    """Nobody wants the rest of a body; streams end on an OSError, as they do when a client has gone."""


class MethodsMiddleware:
    """Answers HEAD as its GET without the body, and OPTIONS with what the path allows."""

    def __init__(self, app: ASGIApp, *, routes: list[BaseRoute], refuse: Refuse) -> None:
        """Stand before the router.

        Args:
            app: The router.
            routes: Its routes.
            refuse: Makes the 405 for a path that is written out and does not take the method.
        """
        self._app, self._routes, self._refuse = app, routes, refuse
        self._of_paths: dict[str, set[str]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if self._of_paths is None:  # only now every route is there
            self._of_paths = _written_out(self._routes)
        if method == "HEAD":
            await self._head(scope, receive, send)
        elif method == "OPTIONS" and allowed_methods(self._routes, scope):
            await Response(status_code=204, headers=allow_header(self._routes, scope))(scope, receive, send)
        elif method not in self._of_paths.get(scope["path"], {method}):
            await self._refuse(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "GET" not in allowed_methods(self._routes, scope):
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
