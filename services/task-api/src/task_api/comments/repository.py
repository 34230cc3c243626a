"""All SQL about comments. A comment is its task's: whoever reaches the task has it, and while that is deleted nobody.

In an engagement others may read it, and only its author may edit it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.comments.models import Comment
from task_api.engagements.reach import reaches, role_in, within
from task_api.engagements.roles import Act
from task_api.tasks.models import Task

_WRITTEN: Final = ("task_id", "author_id", "body", "version", "created_at")
_INSERT: Final = insert(Comment.metadata.tables["comments"]).values({name: bindparam(name) for name in _WRITTEN})


def _alive() -> ColumnElement[bool]:
    return and_(col(Task.id) == col(Comment.task_id), col(Task.deleted_at).is_(None))


class Owned(NamedTuple):
    """A comment, and who owns its task."""

    comment: Comment
    owner_id: str


class CommentStanding(NamedTuple):
    """Whose a comment is that somebody cannot have, and what they are there."""

    author_id: str
    owner_id: str
    role: str | None


class CommentRepository:
    """Comments in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, comment_id: int, *, user_id: str) -> Comment | None:
        """Give a comment on a task that a user may read."""
        statement = select(Comment).join(Task, _alive()).where(col(Comment.id) == comment_id)
        return (await self._session.exec(statement.where(reaches(col(Task.owner_id), user_id, Act.READ)))).first()

    async def lock(self, comment_id: int, *, user_id: str, act: Act) -> Owned | None:
        """Give a comment that a user may edit (WRITE) or delete (MODERATE), and hold it until the transaction ends."""
        owner, author = col(Task.owner_id), col(Comment.author_id)
        allowed = [owner == user_id, and_(author == user_id, within(owner, user_id, Act.WRITE))]
        if act is Act.MODERATE:
            allowed.append(within(owner, user_id, Act.MODERATE))
        statement = select(Comment, Task.owner_id).join(Task, _alive())
        statement = statement.where(col(Comment.id) == comment_id, or_(*allowed)).with_for_update(of=Comment)
        row = (await self._session.exec(statement)).first()
        return None if row is None else Owned(row[0], row[1])

    async def standing(self, comment_id: int, *, user_id: str) -> CommentStanding | None:
        """Say whose a comment is, whoever asks; None when there is none."""
        role = role_in(col(Task.owner_id), user_id)
        statement = select(Comment.author_id, Task.owner_id, role).join(Task, _alive())
        row = (await self._session.exec(statement.where(col(Comment.id) == comment_id))).first()
        return None if row is None else CommentStanding(row[0], row[1], row[2])

    async def page(self, task_id: int, *, user_id: str, after: int | None, limit: int) -> list[Comment]:
        """Give a page of the comments on a task that a user may read, oldest first, and one more."""
        statement = select(Comment).where(self._of(task_id, user_id))
        if after is not None:
            statement = statement.where(col(Comment.id) > after)
        return list((await self._session.exec(statement.order_by(col(Comment.id)).limit(limit + 1))).all())

    async def count(self, task_id: int, *, user_id: str) -> int:
        """Count the comments on a task that a user may read."""
        statement = select(func.count()).select_from(Comment).where(self._of(task_id, user_id))
        return (await self._session.exec(statement)).one()

    async def add(self, comment: Comment) -> None:
        """Insert a comment; it has its id afterwards."""
        self._session.add(comment)
        await self._session.flush()

    async def add_many(self, comments: Sequence[Comment]) -> None:
        """Insert comments by one statement, in order; they are not told their ids."""
        if comments:
            rows = [comment.model_dump(include=set(_WRITTEN)) for comment in comments]
            await (await self._session.connection()).execute(_INSERT, rows)

    async def save(self, comment: Comment) -> None:
        """Write a changed comment as its next version."""
        comment.version += 1
        await self._session.flush()

    async def delete(self, comment: Comment) -> None:
        """Delete a comment for good."""
        await self._session.delete(comment)
        await self._session.flush()

    @staticmethod
    def _of(task_id: int, user_id: str) -> ColumnElement[bool]:
        # Asked of the task once, and not of each comment.
        mine = select(Task.id).where(col(Task.id) == task_id, reaches(col(Task.owner_id), user_id, Act.READ))
        there = mine.where(col(Task.deleted_at).is_(None)).scalar_subquery()
        return col(Comment.task_id) == there
