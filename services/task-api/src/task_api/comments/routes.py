"""`/api/v1/tasks/{id}/comments` and `/api/v1/comments/{id}`: parse, guard, one call, one answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from chassis.pagination import MAX_BIGINT, Page
from task_api.comments.answers import (
    DELETES_COMMENT,
    EDITS_COMMENT,
    SHOWS_COMMENT,
    Creation,
    Deletion,
    Edit,
    creates_comment,
    shown,
)
from task_api.comments.auth import CommentRead, CommentWrite
from task_api.comments.schemas import CommentCreate, CommentOut, CommentPatch
from task_api.comments.service import (
    CommentForbiddenError,
    CommentListing,
    CommentNotFoundError,
    CommentService,
    TooManyCommentsError,
)
from task_api.engagements.access import EngagementForbiddenError
from task_api.tasks.answers import Conditions
from task_api.tasks.cursors import CursorMismatchError, InvalidCursorError
from task_api.tasks.list_parameters import MAX_PAGE, ListCursorParameter
from task_api.tasks.routes import TaskId
from task_api.tasks.service import TaskForbiddenError, TaskNotFoundError

_ONE = documented(CommentForbiddenError, CommentNotFoundError)
_CHANGED = documented(CommentForbiddenError, EngagementForbiddenError, CommentNotFoundError)
_TASK = documented(TaskForbiddenError, TaskNotFoundError)
_WRITTEN = documented(TaskForbiddenError, EngagementForbiddenError, TaskNotFoundError)

router = APIRouter(tags=["comments"], route_class=GuardedRoute)


def get_comment_service(request: Request) -> CommentService:
    """Give a route the rules."""
    service: CommentService = request.app.state.comment_service
    return service


def get_listing(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="comments on a page")] = 50,
    cursor: ListCursorParameter = None,
    total: Annotated[bool, Query(description="count all comments on the task too")] = False,
) -> CommentListing:
    """Read what a list request asks for."""
    return CommentListing(limit=limit, cursor=cursor, total=total)


Comments = Annotated[CommentService, Depends(get_comment_service)]
CommentId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[3])]


@router.post(
    "/tasks/{task_id}/comments",
    status_code=status.HTTP_201_CREATED,
    summary="Comment on a task",
    response_model=CommentOut,
    responses=_WRITTEN | creates_comment(TooManyCommentsError),
)
async def create_comment(
    user: CommentWrite, session: DbSession, comments: Comments, task_id: TaskId, draft: CommentCreate, write: Creation
) -> Response:
    """Write a comment on one of the caller's tasks, or in an engagement, open or completed."""
    await comments.create_comment(user, session, task_id, draft.body, write)
    return write.response()


@router.get(
    "/tasks/{task_id}/comments",
    summary="List the comments on a task",
    response_description="One page of comments",
    responses=_TASK | documented(InvalidCursorError, CursorMismatchError),
)
async def list_comments(
    user: CommentRead,
    session: DbSession,
    comments: Comments,
    task_id: TaskId,
    wanted: Annotated[CommentListing, Depends(get_listing)],
) -> Page[CommentOut]:
    """List the comments on one of the caller's tasks, oldest first."""
    return (await comments.list_comments(user, session, task_id, wanted)).map(CommentOut.model_validate)


@router.get(
    "/comments/{comment_id}", summary="Get a comment", response_model=CommentOut, responses=_ONE | SHOWS_COMMENT
)
async def get_comment(
    user: CommentRead, session: DbSession, comments: Comments, comment_id: CommentId, conditions: Conditions
) -> Response:
    """Get a comment on one of the caller's tasks."""
    return shown(await comments.get_comment(user, session, comment_id), conditions)


@router.patch(
    "/comments/{comment_id}", summary="Edit a comment", response_model=CommentOut, responses=_CHANGED | EDITS_COMMENT
)
async def edit_comment(
    user: CommentWrite, session: DbSession, comments: Comments, comment_id: CommentId, patch: CommentPatch, write: Edit
) -> Response:
    """Change the text of a comment; the same text again is no edit. In an engagement its author alone may."""
    await comments.edit_comment(user, session, comment_id, patch.changes(), write)
    return write.response()


@router.delete(
    "/comments/{comment_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete a comment",
    responses=_CHANGED | DELETES_COMMENT,
)
async def delete_comment(
    user: CommentWrite, session: DbSession, comments: Comments, comment_id: CommentId, write: Deletion
) -> Response:
    """Delete a comment for good; it cannot be restored. In an engagement its author may, and whoever is owner."""
    await comments.delete_comment(user, session, comment_id, write)
    return write.response()
