"""`/api/v1/engagements/{id}/invitations`, and where they are accepted: parse, guard, one call, one answer."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from chassis.pagination import MAX_BIGINT, Page
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.engagements.answers import done, showing, showing_nothing
from task_api.engagements.auth import EngagementRead, EngagementWrite
from task_api.engagements.invitations import (
    InvitationNotFoundError,
    InvitationService,
    TooManyInvitationsError,
    TooManyMembersError,
)
from task_api.engagements.routes import EngagementId
from task_api.engagements.schemas import (
    InvitationAccept,
    InvitationCreate,
    InvitationIssued,
    InvitationOut,
    MembershipOut,
)
from task_api.engagements.service import TooManyEngagementsError
from task_api.idempotency.dependencies import Answered
from task_api.tasks.answers import keyed

_INVITATIONS: Final = "/{engagement_id}/invitations"
_ENGAGEMENT: Final = (EngagementForbiddenError, EngagementNotFoundError)

router = APIRouter(prefix="/engagements", tags=["engagements"], route_class=GuardedRoute)


def get_invitations(request: Request) -> InvitationService:
    """Give a route the rules."""
    service: InvitationService = request.app.state.invitation_service
    return service


Invitations = Annotated[InvitationService, Depends(get_invitations)]
InvitationId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[3])]


@router.post(
    "/invitations/accept",
    summary="Accept an invitation",
    response_model=MembershipOut,
    responses=documented(InvitationNotFoundError)
    | done("The caller's place in the engagement")
    | keyed(TooManyEngagementsError, TooManyMembersError),
)
async def accept_invitation(
    user: EngagementWrite, session: DbSession, invitations: Invitations, accept: InvitationAccept, answering: Answered
) -> Response:
    """Become a member by the token of an invitation, which is good for one person. Doing it again changes nothing.

    A token that is unknown, expired, revoked, used, or for somebody else is 404, all alike.
    """
    terms = showing(answering, MembershipOut.model_validate)
    await invitations.accept(user, session, accept.token, terms)
    return answering.response()


@router.post(
    _INVITATIONS,
    status_code=status.HTTP_201_CREATED,
    summary="Invite somebody into an engagement",
    response_description="The invitation, and its token, which is never shown again",
    responses=documented(*_ENGAGEMENT, TooManyInvitationsError),
)
async def create_invitation(
    user: EngagementWrite,
    session: DbSession,
    invitations: Invitations,
    engagement_id: EngagementId,
    draft: InvitationCreate,
) -> InvitationIssued:
    """Make an invitation for one person, once; for owners. Whoever is handed the token accepts it.

    Takes no `Idempotency-Key`: an answer that is kept would keep the token.
    """
    issued = await invitations.create(user, session, engagement_id, draft)
    return InvitationIssued.of(issued.invitation, issued.token.secret)


@router.get(
    _INVITATIONS,
    summary="List the open invitations of an engagement",
    response_description="All of them, oldest first",
    responses=documented(*_ENGAGEMENT),
)
async def list_invitations(
    user: EngagementRead, session: DbSession, invitations: Invitations, engagement_id: EngagementId
) -> Page[InvitationOut]:
    """List the invitations that can still be accepted, without their tokens; for owners. There are 50 at most."""
    found = await invitations.list_open(user, session, engagement_id)
    return Page(items=[InvitationOut.model_validate(invitation) for invitation in found], next_cursor=None)


@router.delete(
    _INVITATIONS + "/{invitation_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Revoke an invitation",
    responses=documented(*_ENGAGEMENT, InvitationNotFoundError)
    | done("Its token opens nothing any more", HTTPStatus.NO_CONTENT)
    | keyed(),
)
async def revoke_invitation(
    user: EngagementWrite,
    session: DbSession,
    invitations: Invitations,
    engagement_id: EngagementId,
    invitation_id: InvitationId,
    answering: Answered,
) -> Response:
    """Delete an invitation that was not accepted; for owners. Its token opens nothing from now on."""
    await invitations.revoke(user, session, engagement_id, invitation_id, showing_nothing(answering))
    return answering.response()
