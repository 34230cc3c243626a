"""`/api/v1/tasks/changes`: parse, guard, one call, one answer."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request

from chassis.database import DbSession
from chassis.errors import documented
from task_api.sync.auth import FeedRead
from task_api.sync.cursors import MAX_CURSOR_CHARS
from task_api.sync.schemas import A_CURSOR, TaskChange, TaskChanges
from task_api.sync.service import CursorExpiredError, SyncService

MAX_LIMIT: Final = 500

router = APIRouter(prefix="/tasks", tags=["sync"])


def get_sync_service(request: Request) -> SyncService:
    """Give a route the rules."""
    service: SyncService = request.app.state.sync_service
    return service


Sync = Annotated[SyncService, Depends(get_sync_service)]
FeedCursor = Annotated[
    str | None,
    Query(
        max_length=MAX_CURSOR_CHARS,
        description="`next_cursor` of the answer before, or the id of a stream's event; none to sync in full",
        examples=[A_CURSOR],
    ),
]


@router.get("/changes", summary="Get what changed since a cursor", responses=documented(CursorExpiredError))
async def list_changes(
    user: FeedRead,
    session: DbSession,
    sync: Sync,
    cursor: FeedCursor = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, examples=[100])] = 100,
) -> TaskChanges:
    """Get the caller's tasks that changed since a cursor, deleted ones too; without a cursor, all that there are.

    Whoever applies the answers in order ends with exactly what the server has: a change that is committed late is told
    late, and never skipped.
    """
    if cursor is None:
        part = await sync.begin(user, session, limit)
    else:
        part = await sync.since(user, session, sync.read_cursor(user, cursor, field="query.cursor"), limit)
    items = [TaskChange.of(task) for task in part.page.tasks]
    return TaskChanges(items=items, next_cursor=part.next_cursor, has_more=part.page.has_more)
