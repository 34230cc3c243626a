"""Where a reader of the feed stands. The feed has no table of its own: it is the `tasks` in the order of change."""

from dataclasses import dataclass
from typing import Final

from task_api.tasks.models import Task


@dataclass(frozen=True)
class Position:
    """A place in the feed.

    Attributes:
        xid: Transaction of the last change that was given out.
        task_id: Task of that change.
        full_until: While a full sync goes on, the first transaction that had not ended when it began. Tasks deleted
            before that are left out: the reader never heard of them.
    """

    xid: int
    task_id: int
    full_until: int = 0


BEGINNING: Final = Position(0, 0, full_until=2**63 - 1)
"""Where a full sync begins: nothing that is deleted by then is told."""


@dataclass(frozen=True)
class FeedHead:
    """How far the feed may be read now.

    Attributes:
        horizon: The oldest transaction that has not ended. What is below it can no longer change, so it is given out.
        newest: The transaction id that will be given next; the same as `horizon` when nobody writes.
        history: Names the history that transaction ids count in: this table, in this database, of this server, since
            its last promotion. After a restore it is another.
    """

    horizon: int
    newest: int
    history: str


@dataclass(frozen=True)
class FeedPage:
    """A part of one user's feed, read in one snapshot.

    Attributes:
        head: At the time of reading.
        tasks: In the order of their last changes, each once, deleted ones too.
        has_more: Whether there is more below the horizon.
    """

    head: FeedHead
    tasks: list[Task]
    has_more: bool
