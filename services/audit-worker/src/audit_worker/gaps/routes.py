"""`/api/v1/audit/gaps`: parse, guard, one call, one answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from audit_worker.gaps import service
from audit_worker.gaps.auth import GapsForbiddenError, GapsRead
from audit_worker.gaps.schemas import GapOut
from audit_worker.gaps.service import GapFilter
from chassis.database import DbSession
from chassis.errors import documented
from chassis.pagination import MAX_BIGINT, CursorParameter, Page

router = APIRouter(prefix="/audit", tags=["audit"])


def get_filter(
    task_id: Annotated[int | None, Query(ge=1, le=MAX_BIGINT, description="only this task's", examples=[7])] = None,
    is_open: Annotated[
        bool | None, Query(alias="open", description="true: what is still missing; false: what arrived late")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="gaps on a page")] = 50,
    cursor: CursorParameter = None,
    total: Annotated[bool, Query(description="count all matching gaps too")] = False,
) -> GapFilter:
    """Read what a list request asks for."""
    return GapFilter(task_id=task_id, is_open=is_open, limit=limit, cursor=cursor, total=total)


@router.get(
    "/gaps",
    summary="List gaps in the trail",
    response_description="One page of gaps, oldest first",
    responses=documented(GapsForbiddenError),
)
async def list_gaps(_: GapsRead, session: DbSession, wanted: Annotated[GapFilter, Depends(get_filter)]) -> Page[GapOut]:
    """List the versions of tasks that the trail is missing, oldest first; for roles `auditor` and `admin`.

    A gap opens when an event skips versions. Each late event closes the piece it fills.
    """
    page = await service.list_gaps(session, wanted)
    return page.map(GapOut.model_validate)
