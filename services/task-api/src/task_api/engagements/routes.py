"""`/api/v1/engagements` and their members: parse, guard, one call, one answer."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import MAX_SUBJECT_CHARS, GuardedRoute
from chassis.pagination import MAX_BIGINT, CursorParameter, Page
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.engagements.answers import (
    CREATES_ENGAGEMENT,
    RENAMES_ENGAGEMENT,
    SHOWS_ENGAGEMENT,
    done,
    showing,
    showing_engagement,
    showing_nothing,
    shown,
)
from task_api.engagements.auth import EngagementRead, EngagementWrite
from task_api.engagements.schemas import EngagementOut, EngagementWritten, MemberOut, OwnershipTransfer, RoleChange
from task_api.engagements.service import (
    EngagementService,
    LastOwnerError,
    MemberNotFoundError,
    TooManyEngagementsError,
)
from task_api.idempotency.dependencies import Answered
from task_api.tasks.answers import Conditions, keyed
from task_api.tasks.conditions import PreconditionFailedError

MAX_PAGE: Final = 200
_ONE: Final = documented(EngagementForbiddenError, EngagementNotFoundError)
_MEMBER: Final = documented(EngagementForbiddenError, EngagementNotFoundError, MemberNotFoundError)

router = APIRouter(prefix="/engagements", tags=["engagements"], route_class=GuardedRoute)


def get_engagements(request: Request) -> EngagementService:
    """Give a route the rules."""
    service: EngagementService = request.app.state.engagement_service
    return service


Engagements = Annotated[EngagementService, Depends(get_engagements)]
EngagementId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[5])]
MemberId = Annotated[
    str, Path(min_length=1, max_length=MAX_SUBJECT_CHARS, description="subject of the member", examples=["bob"])
]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Make an engagement",
    response_model=EngagementOut,
    responses=CREATES_ENGAGEMENT | keyed(TooManyEngagementsError),
)
async def create_engagement(
    user: EngagementWrite, session: DbSession, engagements: Engagements, draft: EngagementWritten, answering: Answered
) -> Response:
    """Make a shared space for tasks; the caller is its owner."""
    await engagements.create(user, session, draft.name, showing_engagement(answering, HTTPStatus.CREATED))
    return answering.response()


@router.get("", summary="List one's engagements", response_description="One page of engagements")
async def list_engagements(
    user: EngagementRead,
    session: DbSession,
    engagements: Engagements,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="engagements on a page")] = 50,
    cursor: CursorParameter = None,
) -> Page[EngagementOut]:
    """List the engagements that the caller is in, oldest first, each with the caller's role."""
    found = await engagements.list_engagements(user, session, cursor=cursor, limit=limit)
    return found.map(lambda seen: EngagementOut.of(*seen))


@router.get(
    "/{engagement_id}", summary="Get an engagement", response_model=EngagementOut, responses=_ONE | SHOWS_ENGAGEMENT
)
async def get_engagement(
    user: EngagementRead,
    session: DbSession,
    engagements: Engagements,
    engagement_id: EngagementId,
    conditions: Conditions,
) -> Response:
    """Get an engagement that the caller is in."""
    return shown(await engagements.get(user, session, engagement_id), conditions)


@router.patch(
    "/{engagement_id}",
    summary="Rename an engagement",
    response_model=EngagementOut,
    responses=_ONE | RENAMES_ENGAGEMENT,
)
async def rename_engagement(
    user: EngagementWrite,
    session: DbSession,
    engagements: Engagements,
    engagement_id: EngagementId,
    draft: EngagementWritten,
    conditions: Conditions,
    answering: Answered,
) -> Response:
    """Give an engagement another name; for its owners."""
    terms = showing_engagement(answering, conditions=conditions)
    await engagements.rename(user, session, engagement_id, draft.name, terms)
    return answering.response()


@router.delete(
    "/{engagement_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete an engagement",
    responses=_ONE
    | done("The engagement is deleted", HTTPStatus.NO_CONTENT)
    | documented(PreconditionFailedError)
    | keyed(),
)
async def delete_engagement(
    user: EngagementWrite,
    session: DbSession,
    engagements: Engagements,
    engagement_id: EngagementId,
    conditions: Conditions,
    answering: Answered,
) -> Response:
    """Delete an engagement; for its owners. Nobody is in it from now on, and its tasks are deleted after it.

    It cannot be restored, nor can its tasks.
    """
    await engagements.delete(user, session, engagement_id, showing_nothing(answering, conditions))
    return answering.response()


@router.get(
    "/{engagement_id}/members",
    summary="List the members of an engagement",
    response_description="All of them: owners, editors, viewers, each by when they came",
    responses=_ONE,
)
async def list_members(
    user: EngagementRead, session: DbSession, engagements: Engagements, engagement_id: EngagementId
) -> Page[MemberOut]:
    """List who is in an engagement that the caller is in; there are 100 at most."""
    found = await engagements.list_members(user, session, engagement_id)
    return Page(items=[MemberOut.model_validate(member) for member in found], next_cursor=None)


@router.patch(
    "/{engagement_id}/members/{user_id:path}",
    summary="Give a member another role",
    response_model=MemberOut,
    responses=_MEMBER | done("The member as they are now") | keyed(LastOwnerError),
)
async def change_role(
    user: EngagementWrite,
    session: DbSession,
    engagements: Engagements,
    engagement_id: EngagementId,
    user_id: MemberId,
    change: RoleChange,
    answering: Answered,
) -> Response:
    """Give a member another role, also oneself; for owners. The last owner stays one."""
    terms = showing(answering, MemberOut.model_validate)
    await engagements.change_role(user, session, engagement_id, user_id, change.role, terms)
    return answering.response()


@router.delete(
    "/{engagement_id}/members/{user_id:path}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Take a member out of an engagement",
    responses=_MEMBER | done("They are no member any more", HTTPStatus.NO_CONTENT) | keyed(LastOwnerError),
)
async def remove_member(
    user: EngagementWrite,
    session: DbSession,
    engagements: Engagements,
    engagement_id: EngagementId,
    user_id: MemberId,
    answering: Answered,
) -> Response:
    """Take a member out; for owners. They reach nothing in it from now on; what they made stays."""
    await engagements.remove(user, session, engagement_id, user_id, showing_nothing(answering))
    return answering.response()


@router.post(
    "/{engagement_id}/leave",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Leave an engagement",
    responses=_MEMBER | done("The caller is no member any more", HTTPStatus.NO_CONTENT) | keyed(LastOwnerError),
)
async def leave_engagement(
    user: EngagementWrite,
    session: DbSession,
    engagements: Engagements,
    engagement_id: EngagementId,
    answering: Answered,
) -> Response:
    """Leave an engagement; what one made there stays. The last owner cannot: make somebody else owner first."""
    await engagements.remove(user, session, engagement_id, user.id, showing_nothing(answering))
    return answering.response()


@router.post(
    "/{engagement_id}/transfer",
    summary="Make another member owner in one's place",
    response_model=EngagementOut,
    responses=_MEMBER | done("The engagement, with the caller's role in it now") | keyed(),
)
async def transfer_engagement(
    user: EngagementWrite,
    session: DbSession,
    engagements: Engagements,
    engagement_id: EngagementId,
    transfer: OwnershipTransfer,
    answering: Answered,
) -> Response:
    """Make another member owner and oneself an editor, both at once; for owners."""
    await engagements.transfer(user, session, engagement_id, transfer.user_id, showing_engagement(answering))
    return answering.response()
