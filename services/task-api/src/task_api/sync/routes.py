"""`/api/v1/tasks/changes` and `/stream`: parse, guard, one call, one answer."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import StreamingResponse

from chassis.database import DbSession
from chassis.errors import documented
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.engagements.spaces import Space
from task_api.sync.auth import FeedRead
from task_api.sync.cursors import MAX_CURSOR_CHARS, InvalidCursorError
from task_api.sync.live import LiveFeed, StreamsExhaustedError, Subscription, TooManyStreamsError
from task_api.sync.schemas import A_CURSOR, A_STREAM, TaskChange, TaskChanges
from task_api.sync.service import CursorExpiredError, SyncService
from task_api.sync.stream import ChangeStreams
from task_api.tasks.list_parameters import EngagementParameter

MAX_LIMIT: Final = 500


class EventStreamResponse(StreamingResponse):
    """Server-sent events. FastAPI's own class wants a route that yields, which cannot answer 429 before its stream."""

    media_type = "text/event-stream"


router = APIRouter(prefix="/tasks", tags=["sync"])


def get_sync_service(request: Request) -> SyncService:
    """Give a route the rules."""
    service: SyncService = request.app.state.sync_service
    return service


def get_streams(request: Request) -> ChangeStreams:
    """Give a route what makes streams."""
    streams: ChangeStreams = request.app.state.change_streams
    return streams


def get_space(user: FeedRead, engagement_id: EngagementParameter = None) -> Space:
    """Say whose changes are meant."""
    return Space(user.id, engagement_id)


InSpace = Annotated[Space, Depends(get_space)]


async def get_subscription(user: FeedRead, space: InSpace, request: Request) -> AsyncIterator[Subscription]:
    """Give a stream its place among those that are open; it is free again when the answer has ended, however it did."""
    live: LiveFeed = request.app.state.live_feed
    with live.subscribed(space.user_id, space.owner_id, key_id=user.key_id) as subscription:
        yield subscription


Sync = Annotated[SyncService, Depends(get_sync_service)]
FeedCursor = Annotated[
    str | None,
    Query(
        max_length=MAX_CURSOR_CHARS,
        description="`next_cursor` of the answer before, or the id of a stream's event; none to sync in full",
        examples=[A_CURSOR],
    ),
]

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=MAX_CURSOR_CHARS,
        description="id of the last event that was received; goes before `cursor`",
        examples=[A_CURSOR],
    ),
]
_REFUSED = (EngagementForbiddenError, EngagementNotFoundError, CursorExpiredError, InvalidCursorError)
_STREAM = documented(*_REFUSED, TooManyStreamsError, StreamsExhaustedError) | {
    200: {
        "description": "Events named `change`: `data` is a change as in `/tasks/changes`, `id` the cursor after it. "
        "One named `end` is the last: the caller is not in the engagement any more, or is erased; `data` has `code` "
        "and `detail`",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": A_STREAM}},
    }
}


@router.get(
    "/changes",
    summary="Get what changed since a cursor",
    response_description="A part of the feed, and where to go on",
    responses=documented(*_REFUSED),
)
async def list_changes(
    user: FeedRead,
    space: InSpace,
    session: DbSession,
    sync: Sync,
    cursor: FeedCursor = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="changes in one answer", examples=[100])] = 100,
) -> TaskChanges:
    """Get the caller's tasks, or an engagement's, that changed since a cursor, deleted ones too; without one, all.

    Whoever applies the answers in order ends with exactly what the server has: a change that is committed late is told
    late, and never skipped.
    """
    del user  # in `space`
    if cursor is None:
        part = await sync.begin(space, session, limit)
    else:
        part = await sync.since(space, session, sync.read_cursor(space, cursor, field="query.cursor"), limit)
    items = [TaskChange.of(task) for task in part.page.tasks]
    next_cursor = sync.write_cursor(space, part.next_cursor)
    return TaskChanges(items=items, next_cursor=next_cursor, has_more=part.page.has_more)


@router.get("/stream", summary="Stream changes as they happen", response_class=EventStreamResponse, responses=_STREAM)
async def stream_changes(
    user: FeedRead,
    space: InSpace,
    subscription: Annotated[Subscription, Depends(get_subscription, scope="request")],
    sync: Sync,
    streams: Annotated[ChangeStreams, Depends(get_streams)],
    cursor: FeedCursor = None,
    last_event_id: LastEventId = None,
) -> EventStreamResponse:
    """Stream the caller's changes, or an engagement's, as server-sent events, from a cursor on or from now on.

    The stream ends when the token or the API key does, or the replica stops; the client then comes back with
    `Last-Event-ID` and misses nothing.
    """
    known = None
    if last_event_id:
        known = sync.read_cursor(space, last_event_id, field="header.Last-Event-ID")
    elif cursor is not None:
        known = sync.read_cursor(space, cursor, field="query.cursor")
    events = await streams.open(user, space, subscription, known)
    # Neither a cache nor a proxy may keep events back.
    return EventStreamResponse(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
