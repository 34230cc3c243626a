"""`/api/v1/completions`, and those of one task: parse, guard, one call, one answer."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from chassis.database import DbSession
from chassis.errors import documented
from chassis.pagination import Page
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.history.auth import HistoryRead
from task_api.history.repository import CompletionFilter
from task_api.history.schemas import CompletionOut
from task_api.history.service import CompletionListing, HistoryService
from task_api.tasks.cursors import CursorMismatchError, InvalidCursorError
from task_api.tasks.list_parameters import MAX_PAGE, EngagementParameter, ListCursorParameter
from task_api.tasks.routes import TaskId
from task_api.tasks.schemas import Moment
from task_api.tasks.service import TaskForbiddenError, TaskNotFoundError

router = APIRouter(tags=["history"])


def get_history_service(request: Request) -> HistoryService:
    """Give a route the rules."""
    service: HistoryService = request.app.state.history_service
    return service


def get_listing(
    completed_after: Annotated[Moment | None, Query(description="completed at this moment or later")] = None,
    completed_before: Annotated[Moment | None, Query(description="completed before this moment")] = None,
    reopened: Annotated[
        bool | None, Query(description="only completions that were undone; false: only those that still stand")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="completions on a page")] = 50,
    cursor: ListCursorParameter = None,
    total: Annotated[bool, Query(description="count all that match too")] = False,
) -> CompletionListing:
    """Read what a list request asks for."""
    matching = CompletionFilter(completed_after=completed_after, completed_before=completed_before, reopened=reopened)
    return CompletionListing(matching=matching, limit=limit, cursor=cursor, total=total)


History = Annotated[HistoryService, Depends(get_history_service)]
Listing = Annotated[CompletionListing, Depends(get_listing)]


@router.get(
    "/completions",
    summary="List what one has completed",
    response_description="One page of completions",
    responses=documented(EngagementForbiddenError, EngagementNotFoundError, InvalidCursorError, CursorMismatchError),
)
async def list_completions(
    user: HistoryRead,
    session: DbSession,
    history: History,
    wanted: Listing,
    engagement_id: EngagementParameter = None,
) -> Page[CompletionOut]:
    """List the completions of all of the caller's tasks, newest first, also of tasks that are open again or deleted."""
    wanted = replace(wanted, matching=replace(wanted.matching, engagement_id=engagement_id))
    return (await history.of_all(user, session, wanted)).map(CompletionOut.model_validate)


@router.get(
    "/tasks/{task_id}/completions",
    summary="List when a task was completed and reopened",
    response_description="One page of completions",
    responses=documented(TaskForbiddenError, TaskNotFoundError, InvalidCursorError, CursorMismatchError),
)
async def list_task_completions(
    user: HistoryRead, session: DbSession, history: History, task_id: TaskId, wanted: Listing
) -> Page[CompletionOut]:
    """List the completions of one of the caller's tasks and of those that it recurred from, newest first."""
    return (await history.of_task(user, session, task_id, wanted)).map(CompletionOut.model_validate)
