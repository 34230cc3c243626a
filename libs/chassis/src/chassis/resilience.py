"""Timeout, retries with jitter and a circuit breaker around every call that leaves the process.

tenacity retries, `circuitbreaker` breaks, `asyncio.timeout` bounds; this module composes the three and shows
their state as metrics. `docs/resilience.md` lists each call that is wrapped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from circuitbreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from chassis.metrics import breaker_state, outbound_calls

T = TypeVar("T")
_STATE_VALUES: Final = {STATE_CLOSED: 0, STATE_HALF_OPEN: 1, STATE_OPEN: 2}


class CircuitOpenError(Exception):
    """The call was not made: the one before it failed too often.

    Attributes:
        retry_after: Seconds until the next call is let through.
    """

    def __init__(self, call: str, retry_after: float) -> None:
        super().__init__(f"{call}: circuit open, next try in {retry_after:.0f} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class CallPolicy:
    """How one kind of call is made. All times in seconds.

    Attributes:
        name: Label of the call in metrics and messages.
        timeout: Bound on each attempt.
        attempts: Attempts in all; 1 means no retry.
        max_backoff: Upper bound of the jittered exponential wait between attempts.
        failure_threshold: Failed attempts in a row that open the breaker.
        recovery_timeout: How long the breaker stays open before it lets a trial call through.
    """

    name: str
    timeout: float
    attempts: int = 1
    max_backoff: float = 2.0
    failure_threshold: int = 5
    recovery_timeout: float = 5.0


class ResilientCall:
    """Makes calls of one kind under their policy; one instance per process, as it holds the breaker."""

    def __init__(self, policy: CallPolicy, *, is_failure: Callable[[BaseException], bool] = lambda _: True) -> None:
        """Prepare the breaker.

        Args:
            policy: The figures.
            is_failure: Whether an error says that the callee is unwell; others pass through, are not
                retried and leave the breaker closed.
        """
        self._policy = policy
        self._is_failure = is_failure
        self._breaker = CircuitBreaker(
            failure_threshold=policy.failure_threshold,
            recovery_timeout=policy.recovery_timeout,
            expected_exception=lambda _, error: isinstance(error, Exception) and is_failure(error),
            name=policy.name,
        )
        breaker_state.labels(policy.name).set_function(lambda: _STATE_VALUES[self._breaker.state])

    @property
    def open_for(self) -> float:
        """Seconds until a call is let through again; 0 when calls are let through now."""
        return max(0.0, float(self._breaker.open_remaining)) if self._breaker.opened else 0.0

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call.

        Raises:
            CircuitOpenError: The breaker is open; nothing was sent.
            TimeoutError: The last attempt took longer than the policy allows.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._policy.attempts),
            wait=wait_random_exponential(multiplier=0.1, max=self._policy.max_backoff),
            retry=retry_if_exception(self._worth_retrying),
            reraise=True,
        )
        return await retrying(self._attempt, call)

    def _worth_retrying(self, error: BaseException) -> bool:
        return isinstance(error, Exception) and not isinstance(error, CircuitOpenError) and self._is_failure(error)

    async def _attempt(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._breaker.opened:
            outbound_calls.labels(self._policy.name, "refused").inc()
            raise CircuitOpenError(self._policy.name, self.open_for)
        outcome = "error"
        try:
            with self._breaker:
                async with asyncio.timeout(self._policy.timeout):
                    result = await call()
            outcome = "ok"
        except TimeoutError:
            outcome = "timeout"
            raise
        finally:
            outbound_calls.labels(self._policy.name, outcome).inc()
        return result
