"""An outage of whom a service asks, as every call behind a breaker is to go through it. For tests alone.

What does not depend on time is given all the time there is, and a breaker's own time passes when it is told to: a
machine that stands still for a second would otherwise turn an error into a time-out, and let one more try slip through.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from prometheus_client import REGISTRY

from chassis.resilience import CallPolicy
from chassis.testing import PATIENCE

CLOSED, HALF_OPEN, OPEN = 0, 1, 2
TIMEOUT: Final = "timeout"
"""The outcome of a try that nobody answered, as metrics call it."""
_SHORT: Final = 0.3
_REFUSALS: Final = 3

Ask = Callable[[], Awaitable[bool]]
"""Sends the service a request; tells whether that had what it needs, and checks what it is told if not."""


class Clock(Protocol):
    """The time of breakers."""

    def passes(self, seconds: float) -> None:
        """Let so many seconds go by at once."""
        ...


def patient(policy: CallPolicy) -> CallPolicy:
    """Give a policy of a test's own, which is in no hurry."""
    return replace(policy, timeout=PATIENCE, max_backoff=0.05)


class OutageOf:
    """Sees what a breaker does when nobody does the work behind it, and when somebody does again."""

    def __init__(self, policy: CallPolicy, clock: Clock) -> None:
        """Prepare to look.

        Args:
            policy: Of the call; this test's own, as its time-out is changed while it is in use.
            clock: Stands still but for what it is told here.
        """
        self._policy, self._clock = policy, clock

    @property
    def state(self) -> float | None:
        """Whether the breaker is closed, half open or open, as Prometheus sees it."""
        return REGISTRY.get_sample_value("taskwire_breaker_state", {"call": self._policy.name})

    def calls(self, outcome: str) -> float:
        """Count the tries with this outcome so far, of this whole process."""
        labels = {"call": self._policy.name, "outcome": outcome}
        return REGISTRY.get_sample_value("taskwire_outbound_calls_total", labels) or 0.0

    async def opens_the_breaker(self, ask: Ask, outcome: str) -> None:
        """Have the last failure that is borne open the breaker, and see that nobody is asked any more.

        Args:
            ask: Sends a request.
            outcome: Of every try.
        """
        self._hurry(outcome)
        tried, refused, left = self.calls(outcome), self.calls("refused"), self._policy.failure_threshold
        while left > 0:
            assert self.state == CLOSED, f"open although {left} more failures are to be borne"
            assert not await ask()
            tried, left = tried + min(self._policy.attempts, left), left - self._policy.attempts
            assert self.calls(outcome) == tried
        assert self.state == OPEN
        for _ in range(_REFUSALS):
            assert not await ask()
        assert self.calls(outcome) == tried, "somebody was asked although the breaker is open"
        # Of the last request before them, what was left of its tries was refused as well.
        assert self.calls("refused") == refused + _REFUSALS + (left < 0)

    async def fails_a_trial(self, ask: Ask, outcome: str) -> None:
        """Let the breaker be open for as long as it shall, and see one try, which opens it again."""
        self._hurry(outcome)
        tried = self.calls(outcome)
        self._clock.passes(self._policy.recovery_timeout)
        assert self.state == HALF_OPEN
        assert not await ask()
        assert (self.calls(outcome), self.state) == (tried + 1, OPEN)

    async def closes_the_breaker(self, ask: Ask) -> None:
        """Once the work is done again, see that nobody is asked before it is time, and that one answer is enough."""
        self._hurry("ok")
        answered = self.calls("ok")
        assert not await ask(), "it is open for as long as before"
        self._clock.passes(self._policy.recovery_timeout)
        assert await ask()
        assert (self.calls("ok"), self.state) == (answered + 1, CLOSED)

    def _hurry(self, outcome: str) -> None:
        # Frozen for all others. A time-out is short only where one is what is waited for.
        vars(self._policy).update(timeout=_SHORT if outcome == TIMEOUT else PATIENCE)
