"""Waiting for something outside this process, which has no event to wait on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

_SLOWER: Final = 4
_PACES: Final = 4


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


async def at_some_pace(attempt: Callable[[float], Awaitable[bool]], seconds: float) -> bool:
    """Try what needs two things to happen within so many seconds of each other; on a slow machine, within more.

    Only where the second of the two can neither be waited for nor be told when to come.

    Args:
        attempt: Tries it, at the pace it is given: so many seconds.
        seconds: The first pace. Each of three more is four times as slow.
    """
    for number in range(_PACES):
        if await attempt(seconds * _SLOWER**number):
            return True
    return False
