"""Who counts: this replica, or a Valkey for all replicas, without which this replica goes on by itself."""

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from prometheus_client import Counter
from valkey.asyncio.connection import BlockingConnectionPool
from valkey.exceptions import ValkeyError

from chassis.logging import get_logger
from chassis.rate_limits.memory import BoundedMemoryStorage
from chassis.rate_limits.windows import Window
from chassis.resilience import CallPolicy, CircuitOpenError, ResilientCall

T = TypeVar("T")
_MAX_CONNECTIONS: Final = 32
_MAX_REFUSED: Final = 10_000
_KEY_PREFIX: Final = "taskwire:rate-limits:{service}"
_logger = get_logger(__name__)
_unshared = Counter(
    "taskwire_rate_limit_unshared_total",
    "Counts that this replica made by itself because the shared store did not answer",
    ["budget"],
)


class Counters(Protocol):
    """Counts requests against budgets."""

    async def take(self, item: RateLimitItem, key: str) -> bool:
        """Count one request, unless that would be one too many."""
        ...

    async def look(self, item: RateLimitItem, key: str) -> Window:
        """Give what was counted."""
        ...

    async def spent_for(self, item: RateLimitItem, key: str) -> int:
        """Give the seconds until one more is let through, as far as this replica knows without asking anybody."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class _Counting:
    """The moving window of `limits` on one of its storages."""

    def __init__(self, storage: BoundedMemoryStorage | RedisStorage, clock: Callable[[], float]) -> None:
        """Say what counts.

        Args:
            storage: Where times are kept.
            clock: The one that they are of.
        """
        self._storage, self._clock = storage, clock
        self._strategy = MovingWindowRateLimiter(storage)

    async def take(self, item: RateLimitItem, key: str) -> bool:
        return await self._strategy.hit(item, key)

    async def look(self, item: RateLimitItem, key: str) -> Window:
        seconds = item.get_expiry()
        oldest, counted = await self._storage.get_moving_window(item.key_for(key), item.amount, seconds)
        return Window(item.amount, seconds, counted, oldest + seconds - self._clock())


class LocalCounters(_Counting):
    """Counters of this replica alone."""

    def __init__(self, storage: BoundedMemoryStorage | None = None) -> None:
        storage = storage or BoundedMemoryStorage()
        super().__init__(storage, storage.clock)

    async def spent_for(self, item: RateLimitItem, key: str) -> int:
        """Give the seconds until one more is let through; 0 when it is now."""
        return (await self.look(item, key)).wait

    async def close(self) -> None:
        """Do nothing: memory needs no goodbye."""


class SharedCounters:
    """Counters in a Valkey or Redis. When it does not answer, no request waits or fails for it: see `_shared`."""

    def __init__(self, url: str, *, service: str, timeout: float) -> None:
        """Prepare the connections; the first one is made when the first request is counted.

        Args:
            url: Of the store, as in `valkey://user:password@host:6379/0`.
            service: Whose counters: several services may share a store, and each counts for itself.
            timeout: Seconds for each call, getting a connection included.
        """
        address = _as_valkey(url)
        self._pool = BlockingConnectionPool.from_url(address, max_connections=_MAX_CONNECTIONS, timeout=None)
        options: dict[str, Any] = {"connection_pool": self._pool}  # `limits` forgot it in its types
        self._there = _Counting(
            RedisStorage(f"async+{address}", key_prefix=_KEY_PREFIX.format(service=service), **options),
            time.time,  # `limits` sends it along: replicas count together as well as their clocks agree
        )
        self._here = LocalCounters()
        self._call = ResilientCall(
            CallPolicy("rate-limit-store", timeout=timeout, failure_threshold=3, recovery_timeout=5.0)
        )
        self._refused_until: dict[str, float] = {}

    async def take(self, item: RateLimitItem, key: str) -> bool:
        """Count one request, unless that would be one too many; who was refused is refused again without a call."""
        if await self.spent_for(item, key):
            return False
        taken = await self._shared(item, lambda: self._there.take(item, key), lambda: self._here.take(item, key))
        if not taken:
            self._remember(item.key_for(key), time.monotonic() + (await self.look(item, key)).wait)
        return taken

    async def spent_for(self, item: RateLimitItem, key: str) -> int:
        """Give the seconds until one more is let through, as this replica was last told."""
        until = self._refused_until.get(item.key_for(key), 0.0)
        return math.ceil(max(0.0, until - time.monotonic()))

    def _remember(self, key: str, until: float) -> None:
        if len(self._refused_until) >= _MAX_REFUSED:
            now = time.monotonic()
            self._refused_until = {one: end for one, end in self._refused_until.items() if end > now}
        if len(self._refused_until) < _MAX_REFUSED:  # who finds no place is asked for each time
            self._refused_until[key] = until

    async def look(self, item: RateLimitItem, key: str) -> Window:
        """Give what was counted."""
        return await self._shared(item, lambda: self._there.look(item, key), lambda: self._here.look(item, key))

    async def _shared(
        self, item: RateLimitItem, there: Callable[[], Awaitable[T]], here: Callable[[], Awaitable[T]]
    ) -> T:
        try:
            return await self._call(there)
        except CircuitOpenError:
            pass
        except (ValkeyError, OSError, TimeoutError) as error:
            _logger.warning("rate limits are counted by this replica alone", reason=type(error).__name__)
        _unshared.labels(item.namespace).inc()
        return await here()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.disconnect()


def _as_valkey(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{'valkeys' if scheme in {'valkeys', 'rediss'} else 'valkey'}://{rest}"
