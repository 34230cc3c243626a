"""What the counter says of itself is so: how much is left, and when there is more; and it costs what it says."""

import asyncio
import statistics
import time as clocks
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as some
from limits import RateLimitItemPerMinute
from prometheus_client import REGISTRY

from chassis.rate_limits.counters import LocalCounters
from chassis.rate_limits.memory import BoundedMemoryStorage
from chassis.rate_limits.windows import Window

KEY = "somebody"


class Time:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(
    quota=some.integers(1, 50),
    steps=some.lists(some.tuples(some.floats(0, 70), some.integers(0, 60)), max_size=12),
)
def test_what_is_left_is_let_through_and_the_wait_is_exact(quota: int, steps: Sequence[tuple[float, int]]) -> None:
    async def check() -> None:
        time = Time()
        counters, item = LocalCounters(BoundedMemoryStorage(clock=time)), RateLimitItemPerMinute(quota)
        for seconds, requests in steps:
            time.now += seconds
            for _ in range(requests):
                window = await counters.look(item, KEY)
                assert (window.remaining > 0) is (window.wait == 0)
                assert await counters.take(item, KEY) is (window.remaining > 0)
                assert 0 < (await counters.look(item, KEY)).resets_after <= window.seconds + 1
        window = await counters.look(item, KEY)
        if not window.remaining:
            time.now += max(0.0, window.wait - 1.001)
            assert (await counters.look(item, KEY)).remaining == 0
            time.now += 1.001
            assert await counters.take(item, KEY)

    asyncio.run(check())


@given(quota=some.integers(1, 30), gaps=some.lists(some.floats(0, 10), min_size=1, max_size=200))
def test_never_more_than_the_quota_in_any_minute_wherever_it_begins(quota: int, gaps: Sequence[float]) -> None:
    async def check() -> None:
        time = Time()
        counters, item = LocalCounters(BoundedMemoryStorage(clock=time)), RateLimitItemPerMinute(quota)
        taken = []
        for gap in gaps:
            time.now += gap
            if await counters.take(item, KEY):
                taken.append(time.now)
        for at in taken:
            assert len([other for other in taken if at <= other < at + 60]) <= quota

    asyncio.run(check())


def test_a_counter_that_was_never_used_is_full() -> None:
    window = Window(quota=5, seconds=60, counted=0, oldest_ends_in=0.0)
    assert (window.remaining, window.wait, window.resets_after) == (5, 0, 60)


async def test_callers_beyond_the_bound_are_let_through_and_take_no_memory() -> None:
    time = Time()
    storage = BoundedMemoryStorage(clock=time, max_counters=3)
    counters, item = LocalCounters(storage), RateLimitItemPerMinute(1)
    before = REGISTRY.get_sample_value("taskwire_rate_limit_uncounted_total")
    assert before is not None
    for name in "abcdefgh":
        assert await counters.take(item, name)
    assert REGISTRY.get_sample_value("taskwire_rate_limit_uncounted_total") == before + 5
    assert [await counters.take(item, name) for name in "abch"] == [False, False, False, True]
    assert await storage.reset() == 3


async def test_a_burst_at_the_seam_of_two_minutes_is_no_way_to_twice_the_quota() -> None:
    """Nor at any other moment; and what is at rest for a minute has all of it again."""
    for begins in (0.0, 1.0, 30.0, 59.9):
        time = Time()
        time.now += begins
        counters, item = LocalCounters(BoundedMemoryStorage(clock=time)), RateLimitItemPerMinute(100)
        assert [await counters.take(item, KEY) for _ in range(101)] == [True] * 100 + [False]
        for _ in range(59):
            time.now += 1
            assert not await counters.take(item, KEY)
        time.now += 1.001
        assert [await counters.take(item, KEY) for _ in range(101)] == [True] * 100 + [False]


async def test_times_that_count_no_more_take_no_memory() -> None:
    time = Time()
    storage = BoundedMemoryStorage(clock=time)
    counters, item = LocalCounters(storage), RateLimitItemPerMinute(10)
    for _ in range(10_000):
        time.now += 7
        assert await counters.take(item, KEY)
    (callers,) = storage._of_length.values()
    times = callers.find(item.key_for(KEY))
    assert times is not None
    assert len(times) <= 20


async def test_what_is_two_windows_old_is_forgotten() -> None:
    time = Time()
    storage = BoundedMemoryStorage(clock=time)
    counters, item = LocalCounters(storage), RateLimitItemPerMinute(1)
    for number in range(100):
        await counters.take(item, str(number))
    time.now += 120
    assert await counters.take(item, "0")
    assert await storage.reset() == 1


async def test_a_hit_costs_the_same_however_many_callers_there_are() -> None:
    item = RateLimitItemPerMinute(1_000_000)
    few, many = LocalCounters(), LocalCounters()
    await few.take(item, KEY)
    for number in range(20_000):
        await many.take(item, str(number))

    async def cost(counters: LocalCounters) -> float:
        began = clocks.perf_counter()
        for _ in range(20):
            await counters.take(item, KEY)
            await asyncio.sleep(0)  # the storage that comes with `limits` looks through everything here
        return clocks.perf_counter() - began

    pairs = [(await cost(few), await cost(many)) for _ in range(41)]
    # Taken in turns; that storage would be 300 times slower, so ten times is no question of a busy machine.
    assert statistics.median(much for _, much in pairs) < 10 * statistics.median(little for little, _ in pairs)
