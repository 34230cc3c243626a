"""Limits on the line and the headers of a request.

The parser underneath (h11) bounds only what it has to wait for: a head that arrives in one piece may be as large as
what one read of the socket brings, and may have any number of headers. So the bounds are here as well.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.errors import problem_response

MAX_URL_BYTES: Final = 8_192
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 16_384
"""Names and values together. A token of 8,192 characters has to fit."""

MAX_INCOMPLETE_HEAD_BYTES: Final = MAX_URL_BYTES + MAX_HEADER_BYTES + 4 * MAX_HEADERS + 1024
"""What the parser waits for at most: both limits, and what stands between the headers."""

_CLOSE: Final = {"Connection": "close"}


class RequestHeadMiddleware:
    """Refuses a URL that is too long with 414, and too many or too large headers with 431."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        refusal = _refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        await problem_response(*refusal, headers=_CLOSE)(scope, receive, send)


def _refusal(scope: Scope) -> tuple[int, str, str] | None:
    url = scope.get("raw_path") or scope["path"].encode(errors="replace")
    if len(url) + len(scope["query_string"]) > MAX_URL_BYTES:
        return URL_TOO_LONG
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS:
        return 431, "headers_too_large", f"There are more than {MAX_HEADERS} headers."
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        return HEADERS_TOO_LARGE
    return None


URL_TOO_LONG: Final = (414, "uri_too_long", f"The URL is longer than {MAX_URL_BYTES} bytes.")
HEADERS_TOO_LARGE: Final = (431, "headers_too_large", f"The headers have more than {MAX_HEADER_BYTES} bytes.")
