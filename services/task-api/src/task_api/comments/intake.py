"""The rules about comments that come from elsewhere, with the tasks that they are on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.identity import Principal
from task_api.comments.models import Comment
from task_api.comments.repository import CommentRepository


@dataclass(frozen=True)
class CommentArrival:
    """A comment that is to be taken in.

    Attributes:
        body: Checked, as that of any comment.
        created_at: When it was written, if that is known.
    """

    body: str
    created_at: datetime | None


class CommentIntake:
    """Takes in comments from elsewhere."""

    async def take_in(
        self, user: Principal, session: AsyncSession, arrivals: Mapping[int, Sequence[CommentArrival]], *, at: datetime
    ) -> None:
        """Add comments to the session's transaction, which the caller commits; one statement for all of them.

        That a task has no more of them than it may have is the caller's to see to.

        Args:
            user: Whose they will be.
            session: With its transaction, which made the tasks.
            arrivals: By the id of the task, in the order that they shall have.
            at: The moment of it all; none is written later.
        """
        comments = [
            Comment(task_id=task_id, author_id=user.id, body=one.body, created_at=min(one.created_at or at, at))
            for task_id, several in arrivals.items()
            for one in several
        ]
        await CommentRepository(session).add_many(comments)
