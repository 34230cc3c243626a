"""`/api/v1/notifications`: parse, guard, one call, one answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from chassis.database import DbSession
from chassis.errors import documented
from chassis.pagination import MAX_BIGINT, CursorParameter, Page
from notifier.inbox import service
from notifier.inbox.auth import NotificationRead, NotificationWrite
from notifier.inbox.schemas import NotificationOut
from notifier.inbox.service import NotificationFilter, NotificationForbiddenError, NotificationNotFoundError

_ONE = documented(NotificationForbiddenError, NotificationNotFoundError)

router = APIRouter(prefix="/notifications", tags=["notifications"])


def get_filter(
    unread: Annotated[bool | None, Query(description="true: only unread, false: only read ones")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="notifications on a page")] = 50,
    cursor: CursorParameter = None,
    total: Annotated[bool, Query(description="count all matching notifications too")] = False,
) -> NotificationFilter:
    """Read what a list request asks for."""
    return NotificationFilter(unread=unread, limit=limit, cursor=cursor, total=total)


NotificationId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[42])]


@router.get(
    "",
    summary="List one's own notifications",
    response_description="One page of notifications, newest first",
)
async def list_notifications(
    user: NotificationRead, session: DbSession, wanted: Annotated[NotificationFilter, Depends(get_filter)]
) -> Page[NotificationOut]:
    """List what happened to the caller's tasks, newest first."""
    page = await service.list_notifications(user, session, wanted)
    return page.map(NotificationOut.model_validate)


@router.post(
    "/{notification_id}/read",
    summary="Mark a notification as read",
    response_description="The notification, now read",
    responses=_ONE,
)
async def mark_read(user: NotificationWrite, session: DbSession, notification_id: NotificationId) -> NotificationOut:
    """Mark one of the caller's notifications as read; doing it again changes nothing, `read_at` included."""
    return NotificationOut.model_validate(await service.mark_read(user, session, notification_id))
