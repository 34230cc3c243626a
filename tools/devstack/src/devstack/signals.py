"""Signals that ask a supervisor to end, before and while its event loop runs."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_IMPATIENCE: Final = 1.0


class Stopped(BaseException):
    """Somebody asked us to end while the stack was still being prepared."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the signals that ask us to end into an exception, for as long as no event loop handles them."""

    def stop(*_: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def stop_requests(kill: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
    """An event that is set by the first request to end; a second Ctrl-C, a while later, kills all parts at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    first: list[float] = []

    def request(number: int) -> None:
        if first and number == signal.SIGINT and loop.time() - first[0] > _IMPATIENCE:
            kill()
        first.append(loop.time())
        stop.set()

    for number in _ENDING:
        loop.add_signal_handler(number, request, number)
    yield stop
