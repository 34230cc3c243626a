"""`/api/v1/dead-letters` of a consumer: parse, guard, one call, one answer."""

import base64
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from chassis.database import DbSession
from chassis.dead_letters import service
from chassis.dead_letters.auth import DeadLetterRead, DeadLetterWrite
from chassis.dead_letters.envelope import as_json
from chassis.dead_letters.models import DeadLetter, Status
from chassis.dead_letters.schemas import DeadLetterDetail, DeadLetterOut, DiscardIn, RedriveIn, RedriveOut
from chassis.dead_letters.service import (
    Apply,
    DeadLetterClosedError,
    DeadLetterNotFoundError,
    LetterFilter,
    RedriveFailedError,
)
from chassis.errors import ForbiddenError, documented
from chassis.identity import GuardedRoute
from chassis.pagination import MAX_BIGINT, CursorParameter, Page

_EVERY: Final = documented(ForbiddenError)
_ONE: Final = documented(ForbiddenError, DeadLetterNotFoundError)
_DISCARD: Final = documented(ForbiddenError, DeadLetterNotFoundError, DeadLetterClosedError)
_REDRIVE: Final = documented(ForbiddenError, DeadLetterNotFoundError, DeadLetterClosedError, RedriveFailedError)

router = APIRouter(prefix="/dead-letters", tags=["dead letters"], route_class=GuardedRoute)


def get_filter(
    status: Annotated[Status | None, Query(description="only letters of this status")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="letters on a page")] = 50,
    cursor: CursorParameter = None,
    total: Annotated[bool, Query(description="count all matching letters too")] = False,
) -> LetterFilter:
    """Read what a list request asks for."""
    return LetterFilter(status=status, limit=limit, cursor=cursor, total=total)


def get_apply(request: Request) -> Apply:
    """Give the door of the consumer this route is mounted in."""
    apply: Apply = request.app.state.apply_event
    return apply


LetterId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[7])]
ConsumerDoor = Annotated[Apply, Depends(get_apply)]


@router.get("", summary="List dead letters", response_description="One page of letters, newest first", responses=_EVERY)
async def list_letters(
    _: DeadLetterRead, session: DbSession, wanted: Annotated[LetterFilter, Depends(get_filter)]
) -> Page[DeadLetterOut]:
    """List the messages that this service could not process, newest first, without their content."""
    page = await service.list_letters(session, wanted)
    return page.map(DeadLetterOut.model_validate)


@router.get("/{letter_id}", summary="Show a dead letter", response_description="The letter", responses=_ONE)
async def show_letter(_: DeadLetterRead, session: DbSession, letter_id: LetterId) -> DeadLetterDetail:
    """Show a letter with the original message: as JSON where it is JSON, else as bytes in Base64."""
    letter, body = await service.get_letter(session, letter_id)
    return _detail(letter, body)


@router.post(
    "/{letter_id}/redrive",
    summary="Redrive a dead letter",
    response_description="The letter, now closed",
    responses=_REDRIVE,
)
async def redrive_letter(
    user: DeadLetterWrite, session: DbSession, apply: ConsumerDoor, letter_id: LetterId
) -> DeadLetterOut:
    """Process the event again, now, as if it were delivered again; 409 when it fails again.

    Safe at any time: an event that was processed meanwhile changes nothing, and one that is older than what
    was processed since does not overwrite it.
    """
    return DeadLetterOut.model_validate(await service.redrive(user, session, letter_id, apply))


@router.post(
    "/redrive",
    summary="Redrive many dead letters",
    response_description="What became of each letter",
    responses=_EVERY,
)
async def redrive_letters(
    user: DeadLetterWrite, session: DbSession, apply: ConsumerDoor, wanted: RedriveIn
) -> Page[RedriveOut]:
    """Redrive the named letters, or so many of the open ones, in the order in which they came.

    Without `ids`, repeat with `cursor` = `next_cursor` until it is null; letters that fail again stay open
    and are not tried twice.
    """
    if wanted.ids is None:
        page = await service.redrive_open(user, session, apply, limit=wanted.limit, cursor=wanted.cursor)
    else:
        page = Page(items=await service.redrive_each(user, session, wanted.ids, apply), next_cursor=None)
    return page.map(RedriveOut.model_validate)


@router.post(
    "/{letter_id}/discard",
    summary="Discard a dead letter",
    response_description="The letter, now closed",
    responses=_DISCARD,
)
async def discard_letter(
    user: DeadLetterWrite, session: DbSession, letter_id: LetterId, given: DiscardIn
) -> DeadLetterOut:
    """Close a letter without processing it, with a note that says why. The letter itself is kept."""
    return DeadLetterOut.model_validate(await service.discard(user, session, letter_id, given.note))


def _detail(letter: DeadLetter, body: bytes) -> DeadLetterDetail:
    event = as_json(body)
    summary = DeadLetterOut.model_validate(letter).model_dump()
    encoded = base64.b64encode(body).decode() if event is None else None
    return DeadLetterDetail(**summary, event=event, body_base64=encoded)
