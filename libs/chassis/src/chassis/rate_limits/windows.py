"""What a sliding window counter says: how much is left, and when there is more.

The counter knows two windows of fixed length, the current one and the one before, and takes the requests of the
earlier one to be spread evenly: at a quarter into the current window three quarters of them still count. That is two
numbers for each caller instead of a time for each request.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """The state of one counter. Times in seconds.

    Attributes:
        quota: Requests in `seconds`.
        seconds: Length of the window.
        previous: Requests in the window before.
        previous_ttl: How long they still count, less and less.
        current: Requests in this window.
        current_ttl: How long these will count; `seconds` less than that is what is left of this window.
    """

    quota: int
    seconds: int
    previous: int
    previous_ttl: float
    current: int
    current_ttl: float

    @property
    def remaining(self) -> int:
        """Requests that would be let through now."""
        counted = math.floor(self.previous * self.previous_ttl / self.seconds) + self.current
        return max(0, self.quota - counted)

    @property
    def wait(self) -> int:
        """Whole seconds after which one more request is let through, if none comes between; 0 when it is now."""
        if self.remaining:
            return 0
        if self.current < self.quota:  # once enough of the window before has gone
            needed = self.seconds * (self.quota - self.current) / self.previous
            seconds = self.previous_ttl - needed
        else:  # once this window has become the one before, and a part of that has gone
            seconds = self._left_of_this_window + self.seconds - self.seconds * self.quota / self.current
        return math.floor(max(0.0, seconds)) + 1  # at the very moment it is still counted

    @property
    def resets_after(self) -> int:
        """Whole seconds until there is more: as `wait` where nothing is left, else until the next window begins."""
        return self.wait or max(1, math.ceil(self._left_of_this_window))

    @property
    def _left_of_this_window(self) -> float:
        return self.current_ttl - self.seconds if self.current_ttl > self.seconds else self.current_ttl or self.seconds
