"""Asks who is calling before anything of a body is read.

FastAPI takes in and parses a body before it looks at what a route depends on. Whoever has no credential, may not do
this or has used up a budget would have all of that done for them first; headers suffice to tell.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from typing_extensions import override

from chassis.identity.guards import caller_of, guards_of


class GuardedRoute(APIRoute):
    """A route whose guards are asked before its body is read, and once more, as any dependency, after it was.

    The caller is verified and counted the first time; what the second adds is an account that was erased meanwhile.
    A router makes them by `route_class=GuardedRoute`.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Make what answers a request."""
        handle = super().get_route_handler()
        guards = guards_of(self.dependant)
        if not guards or self.body_field is None:
            return handle

        async def ask_first(request: Request) -> Response:
            user = await caller_of(request)
            for guard in guards:
                await guard(request, user)
            return await handle(request)

        return ask_first
