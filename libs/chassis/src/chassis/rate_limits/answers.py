"""What callers are told of their budgets: `RateLimit` and `RateLimit-Policy`, and the 429.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10: lists of quoted names with parameters (RFC 9651).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from prometheus_client import Counter

from chassis.errors import ApiError
from chassis.rate_limits.budgets import WINDOW_SECONDS, Budget, Key

HEADERS: Final = {
    "RateLimit-Policy": '`"name";q=requests;w=seconds` of each budget that this request counts for',
    "RateLimit": '`"name";r=requests left;t=seconds until there are more` of each',
}
_OF: Final = {Key.PRINCIPAL: "of one user", Key.ADDRESS: "from one address"}
_refusals = Counter(
    "taskwire_rate_limited_total", "Requests refused with 429, by the budget that was used up", ["budget"]
)


@dataclass(frozen=True)
class Counted:
    """One budget, as it stands.

    Attributes:
        budget: Which one.
        quota: Requests in a window.
        remaining: Requests that are left.
        resets_after: Seconds until there are more.
    """

    budget: Budget
    quota: int
    remaining: int
    resets_after: int


class RateLimitedError(ApiError):
    """A budget of requests is used up; there is more after `Retry-After` seconds."""

    status, code = 429, "rate_limited"
    documented_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "seconds after which there is more"}

    def __init__(self, counted: Counted) -> None:
        budget, wait = counted.budget, counted.resets_after
        _refusals.labels(budget.name).inc()
        what = f"The budget “{budget.name}” is used up: {counted.quota} requests {_OF[budget.key]}"
        super().__init__(
            f"{what} in {WINDOW_SECONDS} seconds. Try again in {wait} s.", headers={"Retry-After": str(wait)}
        )


def rate_limit_headers(counted: Sequence[Counted]) -> list[tuple[bytes, bytes]]:
    """Make the two headers of an answer."""
    policies = ", ".join(f'"{one.budget.name}";q={one.quota};w={WINDOW_SECONDS}' for one in counted)
    states = ", ".join(f'"{one.budget.name}";r={one.remaining};t={one.resets_after}' for one in counted)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", states.encode())]
