"""Timeout, retries and breaker of one kind of call."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from tenacity import AsyncRetrying, RetryCallState

from chassis.resilience import CallPolicy, CircuitOpenError, Judgement, ResilientCall, backoff
from devstack.breaker_clock import BreakerClock


class Callee:
    """Fails as often as it is told, then answers."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.failures, self.error, self.calls = failures, error or ConnectionError("down"), 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "answer"


class Silent:
    """Says nothing until it is let."""

    def __init__(self) -> None:
        self.called, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> str:
        self.called.set()
        await self.answer.wait()
        return "answer"


def judge(error: Exception) -> Judgement:
    if isinstance(error, ValueError):
        return Judgement.WELL
    return Judgement.UNKNOWN if isinstance(error, LookupError) else Judgement.UNWELL


def count_of(name: str, outcome: str) -> float | None:
    return REGISTRY.get_sample_value("taskwire_outbound_calls_total", {"call": name, "outcome": outcome})


async def open_for_a_moment(call: ResilientCall, breaker_clock: BreakerClock) -> None:
    """Have the call, whose breaker is open for 60 s, fail, and let the time pass until it is half open."""
    with pytest.raises(ConnectionError):
        await call(Callee(failures=1))
    breaker_clock.passes(59)
    assert call.open_for == 1
    breaker_clock.passes(1)
    assert call.open_for == 0


def state_of(name: str) -> float | None:
    return REGISTRY.get_sample_value("taskwire_breaker_state", {"call": name})


async def test_a_call_that_answers_is_made_once() -> None:
    callee = Callee()
    assert await ResilientCall(CallPolicy("plain", timeout=1, attempts=3))(callee) == "answer"
    assert callee.calls == 1


async def test_a_failing_call_is_retried_as_often_as_the_policy_says() -> None:
    callee = Callee(failures=2)
    assert await ResilientCall(CallPolicy("retried", timeout=1, attempts=3))(callee) == "answer"
    assert callee.calls == 3


async def test_the_last_error_is_what_the_caller_gets() -> None:
    callee = Callee(failures=9)
    with pytest.raises(ConnectionError, match="down"):
        await ResilientCall(CallPolicy("hopeless", timeout=1, attempts=2))(callee)
    assert callee.calls == 2


async def test_a_call_without_an_answer_ends_at_the_timeout() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await ResilientCall(CallPolicy("silent", timeout=0.02))(never)
    assert count_of("silent", "timeout") == 1


async def test_the_breaker_opens_after_the_threshold_and_then_sends_nothing() -> None:
    callee = Callee(failures=99)
    call = ResilientCall(CallPolicy("opening", timeout=1, failure_threshold=3, recovery_timeout=60))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await call(callee)
    with pytest.raises(CircuitOpenError) as refusal:
        await call(callee)
    assert callee.calls == 3
    assert 0 < refusal.value.retry_after <= 60
    assert 0 < call.open_for <= 60
    assert state_of("opening") == 2


async def test_retries_stop_when_the_breaker_opens() -> None:
    callee = Callee(failures=99)
    call = ResilientCall(CallPolicy("both", timeout=1, attempts=5, failure_threshold=2, recovery_timeout=60))
    with pytest.raises(CircuitOpenError):
        await call(callee)
    assert callee.calls == 2


async def test_a_success_after_the_recovery_time_closes_the_breaker(breaker_clock: BreakerClock) -> None:
    callee = Callee(failures=1)
    call = ResilientCall(CallPolicy("closing", timeout=1, failure_threshold=1, recovery_timeout=60))
    with pytest.raises(ConnectionError):
        await call(callee)
    assert state_of("closing") == 2
    breaker_clock.passes(60)
    assert state_of("closing") == 1
    assert await call(callee) == "answer"
    assert state_of("closing") == 0


async def test_an_answer_that_is_no_is_not_retried_and_opens_nothing() -> None:
    callee = Callee(failures=99, error=ValueError("our own mistake"))
    call = ResilientCall(CallPolicy("mistaken", timeout=1, attempts=3, failure_threshold=1), judge=judge)
    for _ in range(3):
        with pytest.raises(ValueError, match="mistake"):
            await call(callee)
    assert callee.calls == 3
    assert state_of("mistaken") == 0


async def test_an_answer_that_is_no_closes_the_breaker(breaker_clock: BreakerClock) -> None:
    call = ResilientCall(CallPolicy("no", timeout=1, failure_threshold=1, recovery_timeout=60), judge=judge)
    await open_for_a_moment(call, breaker_clock)
    with pytest.raises(ValueError, match="no"):
        await call(Callee(failures=1, error=ValueError("no")))
    assert state_of("no") == 0


async def test_an_error_that_says_nothing_about_the_callee_changes_nothing() -> None:
    call = ResilientCall(CallPolicy("busy", timeout=1, failure_threshold=2, recovery_timeout=60), judge=judge)
    failing, busy = Callee(failures=99), Callee(failures=99, error=LookupError("no room here"))
    with pytest.raises(ConnectionError):
        await call(failing)
    for _ in range(3):
        with pytest.raises(LookupError):
            await call(busy)
    assert state_of("busy") == 0, "it is no failure"
    with pytest.raises(ConnectionError):
        await call(failing)
    assert state_of("busy") == 2, "it is no success either"


async def test_a_caller_that_goes_away_changes_nothing_and_is_counted(breaker_clock: BreakerClock) -> None:
    call = ResilientCall(CallPolicy("left", timeout=60, failure_threshold=1, recovery_timeout=60))
    await open_for_a_moment(call, breaker_clock)
    silent = Silent()
    caller = asyncio.create_task(call(silent))
    await silent.called.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert state_of("left") == 1
    assert count_of("left", "cancelled") == 1
    assert await call(Callee()) == "answer", "the next caller is the trial"


async def test_half_open_one_caller_tries_and_the_others_do_not_wait_for_it(breaker_clock: BreakerClock) -> None:
    call = ResilientCall(CallPolicy("trial", timeout=60, failure_threshold=1, recovery_timeout=60))
    await open_for_a_moment(call, breaker_clock)
    silent, others = Silent(), Callee()
    trial = asyncio.create_task(call(silent))
    await silent.called.wait()
    for _ in range(5):
        with pytest.raises(CircuitOpenError):
            await call(others)
    assert (others.calls, count_of("trial", "refused")) == (0, 5)
    silent.answer.set()
    assert await trial == "answer"
    assert await call(others) == "answer"
    assert state_of("trial") == 0


async def test_a_trial_that_fails_opens_the_breaker_again(breaker_clock: BreakerClock) -> None:
    call = ResilientCall(CallPolicy("again", timeout=1, failure_threshold=1, recovery_timeout=60))
    for _ in range(3):
        await open_for_a_moment(call, breaker_clock)
    assert count_of("again", "error") == 3


async def test_waits_between_attempts_are_not_all_the_same() -> None:
    wait = backoff(CallPolicy("waits", timeout=1, max_backoff=2.0))
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = 10
    waits = {wait(state) for _ in range(50)}
    assert len(waits) > 40
    assert 0 <= min(waits) < max(waits) <= 2.0
