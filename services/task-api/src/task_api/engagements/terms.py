"""On which terms something is changed about an engagement: what must hold before it, and what is written with it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from task_api.engagements.models import Engagement

Result = TypeVar("Result")


@dataclass(frozen=True)
class Terms(Generic[Result]):
    """What the rules ask of whoever ordered a change.

    Attributes:
        check: Looks at the engagement while it is held and nothing has been changed; may refuse.
        before_commit: Adds to the transaction what belongs to the change, which is made but not committed.
    """

    check: Callable[[Engagement], None]
    before_commit: Callable[[Result], Awaitable[None]]
