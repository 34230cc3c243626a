"""All SQL about comments. A comment is its task's: whoever owns the task has it, and while that is deleted nobody."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, bindparam, func, insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from task_api.comments.models import Comment
from task_api.tasks.models import Task

_WRITTEN: Final = ("task_id", "author_id", "body", "version", "created_at")
_INSERT: Final = insert(Comment.metadata.tables["comments"]).values({name: bindparam(name) for name in _WRITTEN})


def _alive() -> ColumnElement[bool]:
    return and_(col(Task.id) == col(Comment.task_id), col(Task.deleted_at).is_(None))


class CommentRepository:
    """Comments in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, comment_id: int, *, owner_id: str) -> Comment | None:
        """Give a comment on one of a caller's own tasks."""
        return (await self._session.exec(self._one(comment_id, owner_id))).first()

    async def lock(self, comment_id: int, *, owner_id: str) -> Comment | None:
        """Give a comment on one of a caller's own tasks, and hold it until the transaction ends."""
        statement = self._one(comment_id, owner_id).with_for_update(of=Comment)
        return (await self._session.exec(statement)).first()

    async def exists(self, comment_id: int) -> bool:
        """Tell whether there is such a comment, whoever owns its task."""
        statement = select(Comment.id).join(Task, _alive()).where(col(Comment.id) == comment_id)
        return (await self._session.exec(statement)).first() is not None

    async def page(self, task_id: int, *, owner_id: str, after: int | None, limit: int) -> list[Comment]:
        """Give a page of the comments on one of a caller's own tasks, oldest first, and one more."""
        statement = select(Comment).where(self._of(task_id, owner_id))
        if after is not None:
            statement = statement.where(col(Comment.id) > after)
        return list((await self._session.exec(statement.order_by(col(Comment.id)).limit(limit + 1))).all())

    async def count(self, task_id: int, *, owner_id: str) -> int:
        """Count the comments on one of a caller's own tasks."""
        statement = select(func.count()).select_from(Comment).where(self._of(task_id, owner_id))
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
    def _one(comment_id: int, owner_id: str) -> SelectOfScalar[Comment]:
        mine = (col(Comment.id) == comment_id, col(Task.owner_id) == owner_id)
        return select(Comment).join(Task, _alive()).where(*mine)

    @staticmethod
    def _of(task_id: int, owner_id: str) -> ColumnElement[bool]:
        # Asked of the task once, and not of each comment.
        mine = select(Task.id).where(col(Task.id) == task_id, col(Task.owner_id) == owner_id)
        there = mine.where(col(Task.deleted_at).is_(None)).scalar_subquery()
        return col(Comment.task_id) == there
