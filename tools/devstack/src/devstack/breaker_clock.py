"""The time of circuit breakers, for tests: it stands still until it is told to pass."""

import pytest


class BreakerClock:
    """What `circuitbreaker` takes the time from while a test lasts.

    A breaker that is open for a real second is half open when a machine stands still for as long, and a test that
    looks at it then depends on how fast the machine is.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 1000.0
        monkeypatch.setattr("circuitbreaker.monotonic", lambda: self._now)

    def passes(self, seconds: float) -> None:
        """Let so many seconds go by at once."""
        self._now += seconds
