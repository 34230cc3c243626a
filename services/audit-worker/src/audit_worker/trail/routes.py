"""`/api/v1/audit/entries`: parse, guard, one call, one answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from audit_worker.trail import service
from audit_worker.trail.auth import TrailRead
from audit_worker.trail.members import (
    EngagementForbiddenError,
    EngagementNotFoundError,
    KnownMembers,
    MembershipUnknownError,
)
from audit_worker.trail.schemas import AuditEntryOut
from audit_worker.trail.service import EntryFilter
from chassis.database import Database
from chassis.errors import documented
from chassis.pagination import MAX_BIGINT, CursorParameter, Page

router = APIRouter(prefix="/audit", tags=["audit"])


def get_filter(
    task_id: Annotated[
        int | None, Query(ge=1, le=MAX_BIGINT, description="only this task's history", examples=[7])
    ] = None,
    engagement_id: Annotated[
        int | None,
        Query(ge=1, le=MAX_BIGINT, description="the tasks of this engagement, for its members", examples=[3]),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="entries on a page")] = 50,
    cursor: CursorParameter = None,
    total: Annotated[bool, Query(description="count all matching entries too")] = False,
) -> EntryFilter:
    """Read what a list request asks for."""
    return EntryFilter(task_id=task_id, engagement_id=engagement_id, limit=limit, cursor=cursor, total=total)


@router.get(
    "/entries",
    summary="List audit entries",
    response_description="One page of entries, ascending by `sequence`",
    responses=documented(EngagementForbiddenError, EngagementNotFoundError, MembershipUnknownError),
)
async def list_entries(
    user: TrailRead, request: Request, members: KnownMembers, wanted: Annotated[EntryFilter, Depends(get_filter)]
) -> Page[AuditEntryOut]:
    """List the history of the caller's tasks, oldest first: ascending by `sequence`, the order of the chain.

    With `engagement_id` the list is of the tasks of that engagement, for each of its members.
    Roles `auditor` and `admin` see the entries of everybody, which is what verifying the chain needs.
    """
    database: Database = request.app.state.database
    page = await service.list_entries(user, database, members, wanted)
    return page.map(AuditEntryOut.model_validate)
