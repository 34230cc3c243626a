"""Stands before everything that costs: counts for the address, and tells every answer how its budgets stand."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.errors import problem_response
from chassis.paths import INTROSPECTION_PATH, MEMBERSHIP_PATH, SIDECAR_PREFIXES
from chassis.rate_limits.admission import Admission, RateLimits
from chassis.rate_limits.answers import RateLimitedError, rate_limit_headers

EXEMPT: Final = ("/health/", "/metrics", INTROSPECTION_PATH, MEMBERSHIP_PATH, *SIDECAR_PREFIXES)
"""Asked by machines that must never be told to wait: the orchestrator, Prometheus, our own services, the sidecar.

Our services ask for the keys and places of everybody: a budget of their address would be used up by whoever sends them
made-up keys, or guesses at the same address, and nobody's key would be taken meanwhile. They show a secret of 32 bytes.
"""


class RateLimitMiddleware:
    """Refuses with 429 what comes too often from one address, and credentials that are guessed."""

    def __init__(self, app: ASGIApp, *, limits: RateLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT):
            await self._app(scope, receive, send)
            return
        admission = Admission(self._limits, scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if _is_failed_authentication(message, secret_path=admission.has_secret_path):
                    await admission.authentication_failed()
                message["headers"] = [*message.get("headers", ()), *rate_limit_headers(await admission.counted())]
            await send(message)

        try:
            await admission.before_authentication()
        except RateLimitedError as error:
            response = problem_response(error.status, error.code, error.detail, headers=error.headers)
            await response(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def _is_failed_authentication(start: Message, *, secret_path: bool) -> bool:
    """Tell whether somebody sent a credential that does not hold; who sent none has only forgotten it.

    A challenge has an `error` exactly where a credential was sent (RFC 6750, section 3.1).
    """
    if start["status"] == 404:  # noqa: PLR2004
        return secret_path
    challenges = b",".join(value for name, value in start["headers"] if name.lower() == b"www-authenticate")
    return start["status"] == 401 and b"error=" in challenges  # noqa: PLR2004
