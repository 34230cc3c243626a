"""What browsers shall not do with our answers: guess their type, frame them, run them, say where they came from."""

from typing import Final, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    # An answer is no page: nothing in it may load, run or be framed. The page /docs has a policy of its own.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeadersMiddleware:
    """Adds the headers to every answer that does not set them itself; the outermost, so that none is left out."""

    def __init__(self, app: ASGIApp, *, hsts: Literal["auto", "always", "off"]) -> None:
        self._app, self._hsts = app, hsts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                # Asked only now: inside, the scheme has become the one that a trusted proxy saw.
                https = self._hsts == "always" or (self._hsts == "auto" and scope.get("scheme") == "https")
                wanted = (*SECURITY_HEADERS, _HSTS) if https else SECURITY_HEADERS
                message["headers"] = given + [header for header in wanted if header[0] not in names]
            await send(message)

        await self._app(scope, receive, send_with_headers)
