"""Request and correlation ids: accepted when well formed, made otherwise, returned, and in every log line.

`request_id` names one HTTP request. `corr_id` names the whole story: it travels with the event to the
consumers, so one search finds everything that one click caused.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog
import uuid_utils
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "X-Request-ID"
CORRELATION_ID_HEADER = "X-Correlation-ID"
_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_corr_id: ContextVar[str] = ContextVar("corr_id", default="")


def new_id() -> str:
    """Make a UUIDv7 in text form: unique, and sorted by the moment it was made."""
    return str(uuid_utils.uuid7())


def current_request_id() -> str:
    """Give the id of the request being served, or "" outside one."""
    return _request_id.get()


def current_corr_id() -> str:
    """Give the correlation id of what is being done, or a new one when nothing has set it."""
    return _corr_id.get() or new_id()


@contextmanager
def correlated(*, corr_id: str, request_id: str = "") -> Iterator[None]:
    """Set both ids for a block of work, in this context and in its log lines.

    What else is bound to the log lines inside of it is let go with them.
    """
    tokens = _request_id.set(request_id), _corr_id.set(corr_id)
    fields = {"corr_id": corr_id} | ({"request_id": request_id} if request_id else {})
    before = structlog.contextvars.get_contextvars().keys()
    try:
        with structlog.contextvars.bound_contextvars(**fields):
            yield
    finally:
        structlog.contextvars.unbind_contextvars(*(structlog.contextvars.get_contextvars().keys() - before))
        _request_id.reset(tokens[0])
        _corr_id.reset(tokens[1])


class CorrelationMiddleware:
    """Gives every HTTP request its two ids and returns them as headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = HTTPConnection(scope).headers
        request_id = _accepted(headers.get(REQUEST_ID_HEADER)) or new_id()
        corr_id = _accepted(headers.get(CORRELATION_ID_HEADER)) or request_id

        async def send_with_ids(message: Message) -> None:
            if message["type"] == "http.response.start":
                response_headers = MutableHeaders(scope=message)
                response_headers[REQUEST_ID_HEADER] = request_id
                response_headers[CORRELATION_ID_HEADER] = corr_id
            await send(message)

        with correlated(corr_id=corr_id, request_id=request_id):
            await self._app(scope, receive, send_with_ids)


def _accepted(value: str | None) -> str | None:
    return value if value is not None and _WELL_FORMED.fullmatch(value) else None
