"""Counters in the memory of this process.

The storage that comes with `limits` looks through all of its keys at every hit, and keeps as many as there are
callers: whoever has many addresses could make every request slow. Here a hit costs the same whatever there is, and
there is a bound.
"""

import math
import time
from collections.abc import Callable
from typing import Final

from limits.aio.storage.base import SlidingWindowCounterSupport, Storage
from prometheus_client import Counter
from typing_extensions import override

MAX_COUNTERS: Final = 100_000
"""Callers counted in one window; about 15 MB. Those beyond are let through."""

_uncounted = Counter(
    "taskwire_rate_limit_uncounted_total", "Requests let through because too many callers were counted already"
)


class _Windows:
    """The counters of this window and of the one before; going on to the next forgets the oldest all at once."""

    def __init__(self) -> None:
        self._number = 0
        self.previous: dict[str, int] = {}
        self.current: dict[str, int] = {}

    def go_to(self, number: int) -> None:
        if number == self._number:
            return
        self.previous = self.current if number == self._number + 1 else {}
        self.current = {}
        self._number = number


class BoundedMemoryStorage(Storage, SlidingWindowCounterSupport):
    """A storage for the sliding window counter of `limits`; windows begin at multiples of their length."""

    STORAGE_SCHEME = None  # made by hand, never found by an address

    def __init__(self, *, clock: Callable[[], float] = time.time, max_counters: int = MAX_COUNTERS) -> None:
        super().__init__()
        self._clock, self._max_counters = clock, max_counters
        self._of_length: dict[int, _Windows] = {}

    def _now(self, seconds: int) -> tuple[_Windows, float]:
        """Give the windows of a length, and which part of the current one has gone."""
        windows = self._of_length.setdefault(seconds, _Windows())
        number, gone = divmod(self._clock(), seconds)
        windows.go_to(int(number))
        return windows, gone

    @override
    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        windows, gone = self._now(expiry)
        current = windows.current.get(key, 0)
        weighted = math.floor(windows.previous.get(key, 0) * (expiry - gone) / expiry)
        if weighted + current + amount > limit:
            return False
        if current or len(windows.current) < self._max_counters:
            windows.current[key] = current + amount
        else:
            _uncounted.inc()
        return True

    @override
    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        windows, gone = self._now(expiry)
        left = expiry - gone
        return windows.previous.get(key, 0), left, windows.current.get(key, 0), left + expiry

    @override
    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        windows, _ = self._now(expiry)
        windows.previous.pop(key, None)
        windows.current.pop(key, None)

    @override
    async def reset(self) -> int | None:
        forgotten = sum(len(windows.previous) + len(windows.current) for windows in self._of_length.values())
        self._of_length.clear()
        return forgotten

    @override
    async def check(self) -> bool:
        return True

    @property
    @override
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    # What the other strategies of `limits` ask of a storage; this one is for the sliding window counter.

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
