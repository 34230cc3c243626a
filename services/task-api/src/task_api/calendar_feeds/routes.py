"""`/api/v1/calendar-feeds`: parse, guard, one call, one answer."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from chassis.pagination import MAX_BIGINT, Page
from chassis.paths import API_PREFIX
from task_api.calendar_feeds.auth import CalendarFeedRead, CalendarFeedWrite
from task_api.calendar_feeds.schemas import A_TOKEN, CalendarFeedCreate, CalendarFeedIssued, CalendarFeedOut, Form
from task_api.calendar_feeds.service import (
    CalendarFeedForbiddenError,
    CalendarFeedNotFoundError,
    CalendarFeeds,
    IssuedFeed,
    TooManyCalendarFeedsError,
)
from task_api.tasks.conditions import TagList, read_tags

_FEEDS: Final = "/calendar-feeds"
_CALENDARS: Final = "/calendars"
_ONE: Final = documented(CalendarFeedForbiddenError, CalendarFeedNotFoundError)
_ETAG: Final = {"ETag": {"description": "Names this content; for `If-None-Match`", "schema": {"type": "string"}}}
_A_CALENDAR: Final = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Taskwire//task-api//EN\r\nBEGIN:VTODO\r\n"
    "DTSTAMP:20261121T083216Z\r\nDUE:20261201T080000Z\r\nSUMMARY:Pay rent\r\n"
    "UID:0d5c8d7e-6c5e-5b0e-9d55-2f6d6f6c8d11\r\nEND:VTODO\r\nEND:VCALENDAR\r\n"
)

router = APIRouter(tags=["calendar feeds"], route_class=GuardedRoute)


class CalendarResponse(Response):
    """A calendar in iCalendar."""

    media_type = "text/calendar"


_READS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The calendar",
        "headers": _ETAG,
        "content": {"text/calendar": {"schema": {"type": "string"}, "example": _A_CALENDAR}},
    },
    304: {"description": "The calendar is as `If-None-Match` says the caller has it", "headers": _ETAG},
    **documented(CalendarFeedNotFoundError),
}


def get_calendar_feeds(request: Request) -> CalendarFeeds:
    """Give a route the rules."""
    feeds: CalendarFeeds = request.app.state.calendar_feeds
    return feeds


def get_known(
    request: Request,
    if_none_match: Annotated[
        str | None,
        Header(alias="If-None-Match", description="`ETag` of what the caller has", examples=['"5f1d0c3a"']),
    ] = None,
) -> TagList | None:
    """Read what the caller has already; the header is a list and may come on several lines."""
    del if_none_match  # declared for the OpenAPI document: the framework reads one line only
    return read_tags("If-None-Match", request.headers.getlist("If-None-Match"))


Feeds = Annotated[CalendarFeeds, Depends(get_calendar_feeds)]
FeedId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[3])]


@router.post(
    _FEEDS,
    status_code=status.HTTP_201_CREATED,
    summary="Make a calendar feed",
    response_description="The feed, and its token, which is never shown again",
    responses=documented(TooManyCalendarFeedsError),
)
async def create_calendar_feed(
    user: CalendarFeedWrite, session: DbSession, feeds: Feeds, draft: CalendarFeedCreate
) -> CalendarFeedIssued:
    """Make a feed of the caller's tasks that have a due date, for calendar applications to subscribe to.

    Takes no `Idempotency-Key`: an answer that is kept would keep the token.
    """
    return _issued(await feeds.create(user, session, draft))


@router.get(_FEEDS, summary="List one's own calendar feeds", response_description="All of them, oldest first")
async def list_calendar_feeds(user: CalendarFeedRead, session: DbSession, feeds: Feeds) -> Page[CalendarFeedOut]:
    """List the caller's feeds, without their tokens; there are 10 at most."""
    found = await feeds.list_feeds(user, session)
    return Page(items=[CalendarFeedOut.model_validate(feed) for feed in found], next_cursor=None)


@router.post(
    _FEEDS + "/{feed_id}/rotate",
    summary="Give a calendar feed another token",
    response_description="The feed, and its new token, which is never shown again",
    responses=_ONE,
)
async def rotate_calendar_feed(
    user: CalendarFeedWrite, session: DbSession, feeds: Feeds, feed_id: FeedId
) -> CalendarFeedIssued:
    """Make another token; the one before opens nothing from now on. Takes no `Idempotency-Key`, see the create."""
    return _issued(await feeds.rotate(user, session, feed_id))


@router.delete(
    _FEEDS + "/{feed_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Revoke a calendar feed", responses=_ONE
)
async def revoke_calendar_feed(user: CalendarFeedWrite, session: DbSession, feeds: Feeds, feed_id: FeedId) -> None:
    """Delete a feed; its token opens nothing from now on."""
    await feeds.revoke(user, session, feed_id)


@router.get(
    _CALENDARS + "/{token}.ics", summary="Read a calendar feed", response_class=CalendarResponse, responses=_READS
)
async def read_calendar_feed(
    feeds: Feeds,
    token: Annotated[str, Path(description="the feed's token, which is the whole authentication", examples=[A_TOKEN])],
    known: Annotated[TagList | None, Depends(get_known)],
    form: Annotated[
        Form,
        Query(
            alias="as",
            description="`todos` for applications with tasks, `events` for calendars, which often know nothing else",
            examples=["events"],
        ),
    ] = "todos",
    completed: Annotated[bool | None, Query(description="only completed or only open tasks", examples=[False])] = None,
) -> Response:
    """Give the tasks of the feed's owner that have a due date, 1,000 at most, the nearest to now, as iCalendar.

    No bearer token: whoever has the address may read. A token that is unknown, revoked or no token is 404, all alike.
    """
    content = await feeds.open(token, form, completed=completed)
    headers = {"ETag": content.etag}
    if known is not None and known.matches_weakly(content.etag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return CalendarResponse(await content.rendered(), headers=headers)


def _issued(issued: IssuedFeed) -> CalendarFeedIssued:
    path = f"{API_PREFIX}{_CALENDARS}/{issued.token.secret}.ics"
    return CalendarFeedIssued.of(issued.feed, issued.token.secret, path)
