"""Work that is done again and again while an application runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from chassis.database import DatabaseUnavailableError
from chassis.logging import get_logger

_logger = get_logger(__name__)


@asynccontextmanager
async def repeating(name: str, every: float, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do some work now and then every so many seconds, in the background, until the block ends.

    No failure ends it: an outage of the database passes, and readiness says so already; any other is logged.

    Args:
        name: Of the task, and of the work in the log.
        every: Seconds between the end of one turn and the begin of the next.
        work: One turn.
    """
    task = asyncio.create_task(_for_ever(name, every, work), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _for_ever(name: str, every: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except DatabaseUnavailableError:
            pass
        except Exception:  # e.g. no table yet, before the migration
            _logger.exception("periodic work failed", work=name)
        await asyncio.sleep(every)
