"""On which terms a change is made: what must hold before it, and what must be written with it."""

from typing import Protocol

from task_api.tasks.models import Task


class Terms(Protocol):
    """What the rules about tasks ask of whoever ordered a change."""

    def check(self, task: Task) -> None:
        """Look at the task while its row is locked and nothing has been changed.

        Raises:
            PreconditionFailedError: The change was meant for another state.
        """
        ...

    async def before_commit(self, task: Task) -> None:
        """Add to the transaction what belongs to the change; called even when nothing differs."""
        ...


class Unconditional:
    """No terms."""

    def check(self, task: Task) -> None:
        """Accept any state."""

    async def before_commit(self, task: Task) -> None:
        """Add nothing."""


UNCONDITIONAL = Unconditional()
