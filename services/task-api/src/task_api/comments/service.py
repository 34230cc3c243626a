"""The rules about comments. They belong to their task: whoever reaches it has them.

They are deleted and restored with it. In an engagement they are edited by their author alone.

Comments are no events: see docs/decisions/0010-comments-are-not-events.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ApiError, ForbiddenError, NotFoundError
from chassis.identity import Principal
from chassis.pagination import Page
from task_api.comments.models import Comment
from task_api.comments.repository import CommentRepository
from task_api.engagements.access import EngagementForbiddenError, hold
from task_api.engagements.roles import MAY, Act, Role
from task_api.engagements.spaces import engagement_of
from task_api.tasks.cursors import ListCursors
from task_api.tasks.service import TaskService

MAX_COMMENTS: Final = 1_000
"""Comments on one task."""


class CommentNotFoundError(NotFoundError):
    """There is no such comment, or its task was deleted."""

    code = "comment_not_found"


class CommentForbiddenError(ForbiddenError):
    """The comment is on someone else's task, or not the caller's to change."""

    code = "comment_forbidden"


class TooManyCommentsError(ApiError):
    """The task has as many comments as a task may have."""

    status, code = 409, "too_many_comments"


class CommentTerms(Protocol):
    """On which terms a comment is written: what must hold before it, and what must be written with it."""

    def check(self, comment: Comment) -> None:
        """Look at the comment while its row is locked and nothing has been changed.

        Raises:
            PreconditionFailedError: The change was meant for another state.
        """
        ...

    async def before_commit(self, comment: Comment) -> None:
        """Add to the transaction what belongs to the change; called even when nothing differs."""
        ...


@dataclass(frozen=True)
class CommentListing:
    """Which part of a task's comments."""

    limit: int
    cursor: str | None
    total: bool


class CommentService:
    """What can be done with comments, by whom."""

    def __init__(self, tasks: TaskService, cursors: ListCursors) -> None:
        self._tasks = tasks
        self._cursors = cursors

    async def list_comments(
        self, user: Principal, session: AsyncSession, task_id: int, wanted: CommentListing
    ) -> Page[Comment]:
        """Give a page of the comments on one of the user's tasks, oldest first.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            InvalidCursorError: The cursor is none of ours.
            CursorMismatchError: The cursor belongs to another list.
        """
        await self._tasks.get_task(user, session, task_id)
        comments, query, after = CommentRepository(session), f"comments of task {task_id}", None
        if wanted.cursor is not None:
            after = int(self._cursors.read(wanted.cursor, user_id=user.id, query=query)[0])
        found = await comments.page(task_id, user_id=user.id, after=after, limit=wanted.limit)
        total = await comments.count(task_id, user_id=user.id) if wanted.total else None
        shown, next_cursor = found[: wanted.limit], None
        if len(found) > wanted.limit:
            next_cursor = self._cursors.write([str(shown[-1].id)], user_id=user.id, query=query)
        return Page(items=shown, next_cursor=next_cursor, total=total)

    async def create_comment(
        self, user: Principal, session: AsyncSession, task_id: int, body: str, terms: CommentTerms
    ) -> Comment:
        """Write a comment on one of the user's tasks.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            EngagementForbiddenError: In an engagement where the role is too small.
            TooManyCommentsError: There is no room for another.
        """
        await self._tasks.hold_task(user, session, task_id)  # so that no two comments are the last one that fits
        comments = CommentRepository(session)
        if await comments.count(task_id, user_id=user.id) >= MAX_COMMENTS:
            detail = f"Task {task_id} has {MAX_COMMENTS} comments, which is as many as a task may have; delete some."
            raise TooManyCommentsError(detail)
        comment = Comment(task_id=task_id, author_id=user.id, body=body, created_at=datetime.now(UTC))
        await comments.add(comment)
        await terms.before_commit(comment)
        await session.commit()
        return comment

    async def get_comment(self, user: Principal, session: AsyncSession, comment_id: int) -> Comment:
        """Give a comment on one of the user's tasks.

        Raises:
            CommentNotFoundError: No such comment.
            CommentForbiddenError: On someone else's task.
        """
        comments = CommentRepository(session)
        return await comments.find(comment_id, user_id=user.id) or await _refuse(comments, user, comment_id)

    async def edit_comment(
        self,
        user: Principal,
        session: AsyncSession,
        comment_id: int,
        changes: Mapping[str, Any],
        terms: CommentTerms,
    ) -> Comment:
        """Change what is named; a change that changes nothing is no edit.

        Raises:
            CommentNotFoundError: No such comment.
            CommentForbiddenError: On someone else's task, or someone else's in an engagement.
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
        """
        comments = CommentRepository(session)
        comment = await self._hold(user, session, comment_id, Act.WRITE)
        terms.check(comment)
        body = changes.get("body", comment.body)
        if body != comment.body:
            comment.body, comment.edited_at = body, datetime.now(UTC)
            await comments.save(comment)
        await terms.before_commit(comment)
        await session.commit()
        return comment

    async def delete_comment(
        self, user: Principal, session: AsyncSession, comment_id: int, terms: CommentTerms
    ) -> None:
        """Delete a comment for good.

        Raises:
            CommentNotFoundError: No such comment.
            CommentForbiddenError: On someone else's task, or someone else's in an engagement.
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
        """
        comments = CommentRepository(session)
        comment = await self._hold(user, session, comment_id, Act.MODERATE)
        terms.check(comment)
        await comments.delete(comment)
        await terms.before_commit(comment)
        await session.commit()

    @staticmethod
    async def _hold(user: Principal, session: AsyncSession, comment_id: int, act: Act) -> Comment:
        comments = CommentRepository(session)
        found = await comments.lock(comment_id, user_id=user.id, act=act)
        if found is None:
            return await _refuse(comments, user, comment_id)
        await hold(session, user.id, found.owner_id)
        return found.comment


async def _refuse(comments: CommentRepository, user: Principal, comment_id: int) -> Comment:
    standing = await comments.standing(comment_id, user_id=user.id)
    if standing is None:
        raise CommentNotFoundError(f"There is no comment {comment_id}.")
    engagement_id = engagement_of(standing.owner_id)
    if engagement_id is None or standing.role is None:
        raise CommentForbiddenError(f"Comment {comment_id} is on someone else's task.")
    if Act.WRITE not in MAY[Role(standing.role)]:
        raise EngagementForbiddenError(engagement_id, Act.WRITE, standing.role)
    raise CommentForbiddenError(f"Comment {comment_id} was written by someone else.")
