"""What a moving window says: how much is left, and when there is more.

Each request that was let through is known by its time and counts for as long as the window is: so there is no span of
that length with more than the budget in it, wherever it begins.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """The state of one window. Times in seconds.

    Attributes:
        quota: Requests in any `seconds`.
        seconds: Length of the window.
        counted: Requests in the last `seconds`.
        oldest_ends_in: How long the first of these still counts.
    """

    quota: int
    seconds: int
    counted: int
    oldest_ends_in: float

    @property
    def remaining(self) -> int:
        """Requests that would be let through now."""
        return max(0, self.quota - self.counted)

    @property
    def wait(self) -> int:
        """Whole seconds after which one more request is let through, if none comes between; 0 when it is now."""
        return 0 if self.remaining else self.resets_after

    @property
    def resets_after(self) -> int:
        """Whole seconds after which there is one more than now; the length of the window where nothing is counted."""
        if not self.counted:
            return self.seconds
        return math.floor(max(0.0, self.oldest_ends_in)) + 1  # at the very moment it is still counted
