"""Which pages may use the API from a browser: those of the origins in the settings, compared as whole text.

There is no wildcard and no cookie: the API takes credentials in headers only, so a page that was not let in has
nothing that a browser would add for it. The page of an origin that is not listed gets its answer without the headers
that would let it read it.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp
from typing_extensions import override

from chassis.errors import problem_response

PREFLIGHT_SECONDS: Final = 600
"""How long a browser need not ask again; more would hold back a change of the settings."""

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "X-Correlation-ID",
    "X-Request-ID",
    "traceparent",
    "tracestate",
)
EXPOSED_HEADERS: Final = (
    "Allow",
    "Content-Disposition",
    "Deprecation",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Sunset",
    "WWW-Authenticate",
    "X-Correlation-ID",
    "X-Request-ID",
)


class CorsMiddleware(CORSMiddleware):
    """Starlette's, with exact origins only and our error shape where a preflight is refused."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        """Let the pages of these origins in; the settings have checked that each is exact."""
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )

    @override
    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight, without asking who is calling: browsers send none of the caller's headers with it."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == HTTPStatus.OK:
            answer.headers["Cache-Control"] = "no-store"  # what may be kept, and how long, Access-Control-Max-Age says
            return answer
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        detail = "Pages of this origin may not send such a request; TASKWIRE_CORS_ORIGINS lists who may."
        return problem_response(403, "cors_refused", detail, headers=kept)
