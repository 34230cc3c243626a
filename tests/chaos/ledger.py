"""What the writers were told: the changes that the API acknowledged, and every other kind of answer."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Change:
    """A change that the API acknowledged, so that it must never be lost.

    Attributes:
        task_id: The task.
        version: Of the task after it; None for a deletion, whose answer has no body.
        title: Of the task after it.
        at: When the answer came, in seconds since the epoch.
    """

    task_id: int
    version: int | None
    title: str
    at: float


@dataclass
class Ledger:
    """Everything the writers saw.

    Attributes:
        acknowledged: In the order of the answers.
        refused: Answers 503: not done, or not known to be done; the caller may ask again.
        lost: Requests without an answer, because the server died or froze.
        unexpected: Answers that no outage explains.
    """

    acknowledged: list[Change] = field(default_factory=list)
    refused: int = 0
    lost: int = 0
    unexpected: Counter[str] = field(default_factory=Counter)
