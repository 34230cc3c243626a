"""Moving windows in the memory of this process.

The storage that comes with `limits` looks through all of its keys at every hit, and keeps as many as there are
callers: whoever has many addresses could make every request slow. Here a hit costs the same whatever there is, and
there is a bound.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from limits.aio.storage.base import MovingWindowSupport, Storage
from prometheus_client import Counter
from typing_extensions import override

MAX_COUNTERS: Final = 100_000
"""Callers counted in one span. Those beyond are let through."""

_uncounted = Counter(
    "taskwire_rate_limit_uncounted_total", "Requests let through because too many callers were counted already"
)


class _Callers:
    """The times of requests by caller, those asked about in this span and in the one before.

    A span is as long as a window, so whoever was not asked about for a whole span has nothing that still counts: going
    on to the next forgets them all at once.
    """

    def __init__(self) -> None:
        self._number = 0
        self.before: dict[str, array[float]] = {}
        self.now: dict[str, array[float]] = {}

    def go_to(self, number: int) -> None:
        if number == self._number:
            return
        self.before = self.now if number == self._number + 1 else {}
        self.now = {}
        self._number = number

    def find(self, key: str) -> "array[float] | None":
        times = self.now.get(key)
        if times is None and (times := self.before.pop(key, None)) is not None:
            self.now[key] = times
        return times


class BoundedMemoryStorage(Storage, MovingWindowSupport):
    """A storage for the moving window of `limits`: 8 bytes for each request that was let through in it."""

    STORAGE_SCHEME = None  # made by hand, never found by an address

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, max_counters: int = MAX_COUNTERS) -> None:
        super().__init__()
        self.clock, self._max_counters = clock, max_counters
        self._of_length: dict[int, _Callers] = {}

    def _callers(self, seconds: int, now: float) -> _Callers:
        callers = self._of_length.setdefault(seconds, _Callers())
        callers.go_to(int(now // seconds))
        return callers

    @override
    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = self.clock()
        callers = self._callers(expiry, now)
        times = callers.find(key)
        if times is None:
            if amount > limit:
                return False
            if len(callers.now) >= self._max_counters:
                _uncounted.inc()
                return True
            times = callers.now[key] = array("d")
        gone = bisect_left(times, now - expiry)
        if len(times) - gone + amount > limit:
            return False
        if 2 * gone > len(times):  # half at a time, so that it costs nothing to speak of
            del times[:gone]
        times.extend([now] * amount)
        return True

    @override
    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        now = self.clock()
        times = self._callers(expiry, now).find(key)
        gone = 0 if times is None else bisect_left(times, now - expiry)
        if times is None or gone == len(times):
            return now, 0
        return times[gone], len(times) - gone

    @override
    async def reset(self) -> int | None:
        forgotten = sum(len(callers.before) + len(callers.now) for callers in self._of_length.values())
        self._of_length.clear()
        return forgotten

    @override
    async def check(self) -> bool:
        return True

    @property
    @override
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    # What the other strategies of `limits` ask of a storage; this one is for the moving window.

    @override
    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError

    @override
    async def get(self, key: str) -> int:
        raise NotImplementedError

    @override
    async def get_expiry(self, key: str) -> float:
        raise NotImplementedError

    @override
    async def clear(self, key: str) -> None:
        raise NotImplementedError
