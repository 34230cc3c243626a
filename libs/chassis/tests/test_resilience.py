"""Timeout, retries and breaker of one kind of call."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from chassis.resilience import CallPolicy, CircuitOpenError, ResilientCall


class Callee:
    """Fails as often as it is told, then answers."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.failures, self.error, self.calls = failures, error or ConnectionError("down"), 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "answer"


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
    refused = REGISTRY.get_sample_value("taskwire_outbound_calls_total", {"call": "silent", "outcome": "timeout"})
    assert refused == 1


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


async def test_a_success_after_the_recovery_time_closes_the_breaker() -> None:
    callee = Callee(failures=1)
    call = ResilientCall(CallPolicy("closing", timeout=1, failure_threshold=1, recovery_timeout=0.05))
    with pytest.raises(ConnectionError):
        await call(callee)
    assert state_of("closing") == 2
    while call.open_for > 0:  # noqa: ASYNC110 (the breaker keeps time, it signals nothing)
        await asyncio.sleep(0.01)
    assert state_of("closing") == 1
    assert await call(callee) == "answer"
    assert state_of("closing") == 0


async def test_an_error_that_is_no_failure_is_not_retried_and_opens_nothing() -> None:
    callee = Callee(failures=99, error=ValueError("our own mistake"))
    call = ResilientCall(
        CallPolicy("mistaken", timeout=1, attempts=3, failure_threshold=1),
        is_failure=lambda error: not isinstance(error, ValueError),
    )
    for _ in range(3):
        with pytest.raises(ValueError, match="mistake"):
            await call(callee)
    assert callee.calls == 3
    assert state_of("mistaken") == 0
