"""Waiting for something outside this process, which has no event to wait on."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], interval: float) -> None:
    """Ask again and again, `interval` seconds apart, until the answer is yes."""
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(interval)


async def within(seconds: float, condition: Callable[[], Awaitable[bool]], interval: float) -> bool:
    """Like `until`, but for so many seconds at most; whether the answer was yes in time."""
    try:
        async with asyncio.timeout(seconds):
            await until(condition, interval)
    except TimeoutError:
        return False
    return True
