"""Work that is done in the background while an application runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

from chassis.database import DatabaseUnavailableError
from chassis.logging import get_logger

_logger = get_logger(__name__)


@asynccontextmanager
async def in_background(name: str, work: Callable[[], Coroutine[object, object, None]]) -> AsyncIterator[None]:
    """Do some work in the background and cancel it when the block ends.

    Args:
        name: Of the task.
        work: What to do; it ends by being cancelled. A failure that it lets out is raised where the block ends.
    """
    task = asyncio.create_task(work(), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def repeating(name: str, every: float, work: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Do some work now and then every so many seconds, in the background, until the block ends.

    No failure ends it: an outage of the database passes, and readiness says so already; any other is logged.

    Args:
        name: Of the task, and of the work in the log.
        every: Seconds between the end of one turn and the begin of the next.
        work: One turn; what it gives is not looked at.
    """

    async def for_ever() -> None:
        while True:
            try:
                await work()
            except DatabaseUnavailableError:
                pass
            except Exception:  # e.g. no table yet, before the migration
                _logger.exception("periodic work failed", work=name)
            await asyncio.sleep(every)

    async with in_background(name, for_ever):
        yield
