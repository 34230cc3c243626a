"""What a signed request looked like when it came in, and its body, which is compared with its hash before it is used.

Until then it goes to nobody: it is taken in, up to `MEMORY_BYTES` in memory, beyond that in a file without a name.
"""

import asyncio
import hashlib
import hmac
import tempfile
from collections.abc import Callable
from typing import Final, TypeVar

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.errors import ApiError, UnavailableError
from chassis.identity.proxy.signature import SCHEME

MEMORY_BYTES: Final = 1024 * 1024
STALL_TIMEOUT: Final = 20.0
"""Seconds in which some of a body must arrive."""

_KEY: Final = "taskwire.signed_request"
_PREFIX: Final = SCHEME.lower().encode() + b" "
_PIECE: Final = 64 * 1024

T = TypeVar("T")


class BodyStalledError(ApiError):
    """Nothing of the body arrived for too long; sign the request anew and send it again."""

    status, code = 408, "upload_stalled"

    def __init__(self, seconds: float) -> None:
        detail = f"Nothing of the body arrived for {seconds:g} seconds; sign the request anew and send it again."
        super().__init__(detail, headers={"Connection": "close"})


class SignedRequest:
    """A request as it stood on the wire; its body is hashed as it comes in, whoever reads it.

    Attributes:
        method: Also when HEAD is served as GET.
        path: With its percent-encoding.
        query: What follows the `?`.
    """

    def __init__(self, scope: Scope, receive: Receive, *, stall_timeout: float = STALL_TIMEOUT) -> None:
        self.method = str(scope["method"])
        self.path, self.query = bytes(scope["raw_path"]), bytes(scope["query_string"])
        self._receive, self._stall_timeout = receive, stall_timeout
        self._sha256 = hashlib.sha256()
        self._complete = False
        self._kept: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._size = self._left = 0

    @classmethod
    def of(cls, request: Request) -> "SignedRequest":
        """Give what the middleware noted."""
        noted: SignedRequest = request.scope[_KEY]
        return noted

    async def receive(self) -> Message:
        """Give the next message: of what was kept, and then of the connection (ASGI)."""
        if self._kept is None:
            return await self._next()
        kept = self._kept
        piece = await self._with_file(lambda: kept.read(_PIECE))
        self._left -= len(piece)
        if not self._left:
            self.close()
        return {"type": "http.request", "body": piece, "more_body": self._left > 0}

    async def has_body(self, sha256: str) -> bool:
        """Tell whether the body is the one with this hash; what nobody has read yet is kept for who will.

        Raises:
            BodyStalledError: It does not come.
            UnavailableError: There is no room for it.
        """
        if not self._complete:
            await self._keep()
        return self._complete and hmac.compare_digest(self._sha256.hexdigest(), sha256)

    def close(self) -> None:
        """Let go of what was kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._sha256.update(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        return message

    async def _keep(self) -> None:
        self._kept = kept = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  (closed when it was read)
        while not self._complete:
            try:
                async with asyncio.timeout(self._stall_timeout):
                    message = await self._next()
            except TimeoutError:
                raise BodyStalledError(self._stall_timeout) from None
            if message["type"] == "http.disconnect":
                return
            body: bytes = message.get("body", b"")
            self._size += len(body)
            await self._with_file(lambda body=body: kept.write(body))  # type: ignore[misc]
        self._left = self._size
        kept.seek(0)

    async def _with_file(self, work: Callable[[], T]) -> T:
        """Read or write; in a thread, once it is no longer memory."""
        try:
            return work() if self._size <= MEMORY_BYTES else await asyncio.to_thread(work)
        except OSError as error:
            raise UnavailableError("There is no room for the body right now.", retry_after=5) from error


class SignedRequestMiddleware:
    """Notes what a signed request looks like, before anything else makes something of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http" or not _is_signed(scope):
            await self._app(scope, receive, send)
            return
        scope[_KEY] = request = SignedRequest(scope, receive)
        try:
            await self._app(scope, request.receive, send)
        finally:
            request.close()


def _is_signed(scope: Scope) -> bool:
    return any(name == b"authorization" and value.lower().startswith(_PREFIX) for name, value in scope["headers"])
