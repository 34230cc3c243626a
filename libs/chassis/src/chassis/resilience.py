"""Timeout, retries with jitter and a circuit breaker around every call that leaves the process.

tenacity retries, `circuitbreaker` breaks, `asyncio.timeout` bounds; this module composes the three and shows
their state as metrics. `docs/resilience.md` lists each call that is wrapped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar, assert_never

from circuitbreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from chassis.metrics import breaker_state, outbound_calls

T = TypeVar("T")
_OUTCOMES: Final = ("ok", "error", "timeout", "refused", "cancelled")
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


def backoff(policy: CallPolicy) -> wait_base:
    """Give the waits between attempts: anything up to 0.1 s, 0.2 s, 0.4 s …, so that callers do not fall into step."""
    return wait_random_exponential(multiplier=0.1, max=policy.max_backoff)


class Judgement(Enum):
    """What an error says about the callee."""

    UNWELL = auto()
    """It did not do its work: counts for the breaker, and is worth a retry."""
    WELL = auto()
    """It answered; what it said was no. Like a success for the breaker, and a retry would get the same answer."""
    UNKNOWN = auto()
    """It was not asked, or nobody waited for its answer: changes nothing."""


class ResilientCall:
    """Makes calls of one kind under their policy; one instance per process, as it holds the breaker."""

    def __init__(
        self, policy: CallPolicy, *, judge: Callable[[Exception], Judgement] = lambda _: Judgement.UNWELL
    ) -> None:
        """Prepare the breaker.

        Args:
            policy: The figures.
            judge: What an error says about the callee. A caller that goes away says nothing, whatever this is.
        """
        self._policy, self._judge = policy, judge
        self._on_trial = False
        self._breaker = CircuitBreaker(
            failure_threshold=policy.failure_threshold, recovery_timeout=policy.recovery_timeout, name=policy.name
        )
        for outcome in _OUTCOMES:  # so that the first failure is one more than none
            outbound_calls.labels(policy.name, outcome)
        breaker_state.labels(policy.name).set_function(lambda: _STATE_VALUES[self._breaker.state])

    @property
    def open_for(self) -> float:
        """Seconds until a call is let through again; 0 when calls are let through now."""
        return max(0.0, float(self._breaker.open_remaining)) if self._breaker.opened else 0.0

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call.

        Raises:
            CircuitOpenError: The breaker is open, or half open and another call is the trial; nothing was sent.
            TimeoutError: The last attempt took longer than the policy allows.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._policy.attempts),
            wait=backoff(self._policy),
            retry=retry_if_exception(self._worth_retrying),
            reraise=True,
        )
        return await retrying(self._attempt, call)

    def _worth_retrying(self, error: BaseException) -> bool:
        if not isinstance(error, Exception) or isinstance(error, CircuitOpenError):
            return False
        return self._judge(error) is Judgement.UNWELL

    async def _attempt(self, call: Callable[[], Awaitable[T]]) -> T:
        trial = self._breaker.state == STATE_HALF_OPEN
        # One trial at a time: a callee that still says nothing shall cost one caller the timeout, not all of them.
        if self._breaker.opened or (trial and self._on_trial):
            outbound_calls.labels(self._policy.name, "refused").inc()
            raise CircuitOpenError(self._policy.name, self.open_for)
        self._on_trial = trial
        outcome = "cancelled"
        try:
            async with asyncio.timeout(self._policy.timeout):
                result = await call()
        except Exception as error:
            outcome = "timeout" if isinstance(error, TimeoutError) else "error"
            self._learn_from(error)
            raise
        else:
            outcome = "ok"
            self._breaker.reset()
        finally:
            if trial:
                self._on_trial = False
            outbound_calls.labels(self._policy.name, outcome).inc()
        return result

    def _learn_from(self, error: Exception) -> None:
        match self._judge(error):
            case Judgement.UNWELL:
                # The library counts in a `with` block only, where whatever is no failure is a success.
                self._breaker.__exit__(type(error), error, error.__traceback__)
            case Judgement.WELL:
                self._breaker.reset()
            case Judgement.UNKNOWN:
                pass
            case other:
                assert_never(other)
