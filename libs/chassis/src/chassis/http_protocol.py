"""uvicorn's HTTP/1.1 with two things it lacks: a bound on the time for a request's head, and errors in our shape.

uvicorn starts no clock for the line and the headers of a request, and one byte now and then keeps a connection for
ever. And what its parser refuses never reaches the application: it would be answered 400 as plain text, whatever was
wrong with it, without any of the headers that every answer of ours has.
"""

import asyncio
from typing import Final

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from chassis.correlation import CORRELATION_ID_HEADER, REQUEST_ID_HEADER, correlated, new_id
from chassis.errors import problem_response
from chassis.logging import get_logger
from chassis.request_heads import HEADERS_TOO_LARGE, MAX_INCOMPLETE_HEAD_BYTES, URL_TOO_LONG
from chassis.security_headers import SECURITY_HEADERS

_LINGER: Final = 2.0
"""Seconds to go on taking, and throwing away, what is sent after an answer; else the kernel would take that back."""
_MALFORMED: Final = (400, "malformed_request", "The request is not well formed; see RFC 9112.")
_logger = get_logger(__name__)


def protocol(*, head_timeout: float) -> type[H11Protocol]:
    """Make the protocol class that uvicorn is to use.

    Args:
        head_timeout: Seconds from the first byte of a request, or from the connection's begin, to the end of its head.
    """

    class BoundedProtocol(_BoundedProtocol):
        seconds = head_timeout

    return BoundedProtocol


class _BoundedProtocol(H11Protocol):
    seconds: float
    _timer: asyncio.TimerHandle | None = None
    _head_began = False
    _refused = False
    _served: RequestResponseCycle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._begin_waiting()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if not self._is_serving:
            self._head_began = True
            self._begin_waiting()
        super().data_received(data)

    @override
    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not self._served:  # a head is complete
            self._served = self.cycle
            self._end_waiting()

    @property
    def _is_serving(self) -> bool:
        return self._served is not None and not self._served.response_complete

    def _begin_waiting(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _end_waiting(self) -> None:
        self._head_began = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_serving or self.transport.is_closing():
            return
        if self._head_began and self.conn.our_state is h11.IDLE:
            detail = f"The line and the headers of the request did not arrive in {self.seconds:g} seconds."
            self._refuse(408, "request_head_stalled", detail)
        else:
            self.transport.close()

    @override
    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, and close."""
        self._end_waiting()
        received, _ = self.conn.trailing_data
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:  # an answer is on its way already
            self.transport.close()
        elif len(received) <= MAX_INCOMPLETE_HEAD_BYTES:
            self._refuse(*_MALFORMED)
        elif b"\n" in received:
            self._refuse(*HEADERS_TOO_LARGE)
        else:
            self._refuse(*URL_TOO_LONG)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        request_id = new_id()
        with correlated(corr_id=request_id, request_id=request_id):
            _logger.info("request refused before it was read", status=status, code=code)
            response = problem_response(status, code, detail, headers={"Connection": "close"})
        ids = [(name.encode(), request_id.encode()) for name in (REQUEST_ID_HEADER, CORRELATION_ID_HEADER)]
        headers = [*self.server_state.default_headers, *response.raw_headers, *SECURITY_HEADERS, *ids]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=b""),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER, self.transport.close)
