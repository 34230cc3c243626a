"""The rules about invitations: good for one person, once, until they expire or are revoked.

A token that opens nothing is told nothing: unknown, expired, revoked, used and somebody else's are one answer.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ApiError, FieldProblem, InvalidInputError, NotFoundError
from chassis.identity import Principal
from task_api.engagements.access import EngagementNotFoundError, check_role
from task_api.engagements.invitation_repository import InvitationRepository
from task_api.engagements.models import Engagement, Invitation
from task_api.engagements.repository import EngagementRepository
from task_api.engagements.roles import Act
from task_api.engagements.schemas import DEFAULT_VALIDITY, MAX_INVITATION_DAYS, InvitationCreate, MembershipOut
from task_api.engagements.service import MAX_MEMBERS, check_place
from task_api.engagements.terms import Terms
from task_api.secret_tokens import INVITATION_PREFIX, SecretToken, digest_of, new_token

MAX_OPEN_INVITATIONS: Final = 50
"""Invitations of one engagement that can still be accepted."""


class InvitationNotFoundError(NotFoundError):
    """There is no such invitation, or it opens nothing for the caller."""

    code = "invitation_not_found"


class TooManyInvitationsError(ApiError):
    """The engagement has as many open invitations as it may have."""

    status, code = 409, "too_many_invitations"

    def __init__(self) -> None:
        detail = f"The engagement has {MAX_OPEN_INVITATIONS} open invitations, which is the limit; revoke one first."
        super().__init__(detail)


class TooManyMembersError(ApiError):
    """The engagement has as many members as it may have."""

    status, code = 409, "too_many_members"

    def __init__(self) -> None:
        super().__init__(f"The engagement has {MAX_MEMBERS} members, which is the limit.")


@dataclass(frozen=True)
class IssuedInvitation:
    """An invitation and the token that was just made for it."""

    invitation: Invitation
    token: SecretToken


class InvitationService:
    """What can be done with invitations, by whom."""

    async def create(
        self, user: Principal, session: AsyncSession, engagement_id: int, draft: InvitationCreate
    ) -> IssuedInvitation:
        """Invite somebody, or whoever is handed the token.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not its owner.
            InvalidInputError: It would expire at once, or too late.
            TooManyInvitationsError: There are as many open ones as there may be.
        """
        now, token = datetime.now(UTC), new_token(INVITATION_PREFIX)
        expires_at = _expiry(draft.expires_at, now)
        await self._hold(user, session, engagement_id)
        invitations = InvitationRepository(session)
        await invitations.drop_expired(engagement_id, now=now)
        if await invitations.count_open(engagement_id, now=now) >= MAX_OPEN_INVITATIONS:
            raise TooManyInvitationsError
        invitation = Invitation(
            engagement_id=engagement_id,
            role=draft.role,
            subject=draft.subject,
            token_digest=token.digest,
            token_hint=token.hint,
            created_at=now,
            expires_at=expires_at,
        )
        await invitations.add(invitation)
        await session.commit()
        return IssuedInvitation(invitation, token)

    async def list_open(self, user: Principal, session: AsyncSession, engagement_id: int) -> list[Invitation]:
        """Give the invitations that can still be accepted, oldest first.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not its owner.
        """
        seen = await EngagementRepository(session).find(engagement_id, user.id)
        if seen is None:
            raise EngagementNotFoundError(engagement_id)
        check_role(engagement_id, seen.role, Act.MANAGE)
        return await InvitationRepository(session).list_open(engagement_id, now=datetime.now(UTC))

    async def revoke(
        self, user: Principal, session: AsyncSession, engagement_id: int, invitation_id: int, terms: Terms[None]
    ) -> None:
        """Delete an invitation; its token opens nothing from now on.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not its owner.
            InvitationNotFoundError: No such open invitation.
        """
        terms.check(await self._hold(user, session, engagement_id))
        if not await InvitationRepository(session).revoke(engagement_id, invitation_id, now=datetime.now(UTC)):
            raise InvitationNotFoundError(f"The engagement has no open invitation {invitation_id}.")
        await terms.before_commit(None)
        await session.commit()

    async def accept(self, user: Principal, session: AsyncSession, secret: str, terms: Terms[MembershipOut]) -> None:
        """Let the user in by an invitation's token. The same user again, as long as the invitation lasts: no change.

        Somebody who is in already keeps the role, and the invitation stays for others.

        Raises:
            InvitationNotFoundError: The token opens nothing for this user; never says why.
            TooManyEngagementsError: The user is in as many engagements as one may be.
            TooManyMembersError: The engagement has as many members as it may have.
        """
        engagements, invitations = EngagementRepository(session), InvitationRepository(session)
        await engagements.hold_user(user.id)
        found = await invitations.find(digest_of(secret))
        engagement = None if found is None else await engagements.hold(found.engagement_id)
        invitation = None if found is None else await invitations.read_again(found)  # as of when its turn came
        now = datetime.now(UTC)
        if engagement is None or invitation is None or not _is_for(invitation, user.id, now):
            raise _nothing()
        members = await engagements.members(invitation.engagement_id)
        role = next((member.role for member in members if member.user_id == user.id), None)
        if role is None:
            if invitation.accepted_by is not None:  # used, and removed since
                raise _nothing()
            await check_place(engagements, user.id)
            if len(members) >= MAX_MEMBERS:
                raise TooManyMembersError
            invitation.accepted_by, role = user.id, invitation.role
            await invitations.save()
            await engagements.add_member(invitation.engagement_id, user.id, role, at=now)
        shown = MembershipOut.model_validate(
            {"engagement_id": invitation.engagement_id, "name": engagement.name, "role": role}
        )
        await terms.before_commit(shown)
        await session.commit()

    @staticmethod
    async def _hold(user: Principal, session: AsyncSession, engagement_id: int) -> Engagement:
        engagements = EngagementRepository(session)
        engagement = await engagements.hold(engagement_id)
        if engagement is None:
            raise EngagementNotFoundError(engagement_id)
        seen = await engagements.find(engagement_id, user.id)
        check_role(engagement_id, None if seen is None else seen.role, Act.MANAGE)
        return engagement


def _is_for(invitation: Invitation, user_id: str, now: datetime) -> bool:
    return (
        invitation.expires_at > now
        and invitation.subject in {None, user_id}
        and invitation.accepted_by in {None, user_id}
    )


def _nothing() -> InvitationNotFoundError:
    return InvitationNotFoundError("This token opens no invitation for you.")


def _expiry(wanted: datetime | None, now: datetime) -> datetime:
    expires_at = now + DEFAULT_VALIDITY if wanted is None else wanted
    if not now < expires_at <= now + timedelta(days=MAX_INVITATION_DAYS):
        message = f"must be in the future, at most {MAX_INVITATION_DAYS} days ahead"
        problem = FieldProblem(field="expires_at", message=message)
        raise InvalidInputError(f"expires_at {message}", errors=[problem])
    return expires_at
