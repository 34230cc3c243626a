"""The rules about engagements and their members. Who is in one is held while it is changed: changes take turns.

At least one owner, always: the last one can neither leave nor take a smaller role.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import current_corr_id
from chassis.errors import ApiError, NotFoundError
from chassis.identity import Principal
from chassis.pagination import Page, cut_page, decode_cursor
from task_api.engagements.access import EngagementNotFoundError, check_role, enter
from task_api.engagements.invitation_repository import InvitationRepository
from task_api.engagements.models import Engagement, Member
from task_api.engagements.repository import EngagementRepository, Seen
from task_api.engagements.roles import Act, Role
from task_api.engagements.spaces import Space
from task_api.engagements.terms import Terms

MAX_ENGAGEMENTS: Final = 100
"""Engagements that one user is in."""
MAX_MEMBERS: Final = 100
"""Members of one engagement."""


class TooManyEngagementsError(ApiError):
    """The user is in as many engagements as one may be."""

    status, code = 409, "too_many_engagements"

    def __init__(self) -> None:
        super().__init__(f"You are in {MAX_ENGAGEMENTS} engagements, which is the limit; leave one first.")


class LastOwnerError(ApiError):
    """The engagement would be left without an owner."""

    status, code = 409, "last_owner"

    def __init__(self) -> None:
        super().__init__("An engagement has at least one owner: make somebody else owner first, or delete it.")


class MemberNotFoundError(NotFoundError):
    """There is no such member."""

    code = "member_not_found"

    def __init__(self) -> None:
        super().__init__("The engagement has no such member.")


class EngagementService:
    """What can be done with engagements, by whom."""

    def __init__(self, ending: "Ending") -> None:
        self._ending = ending

    async def create(self, user: Principal, session: AsyncSession, name: str, terms: Terms[Seen]) -> None:
        """Make an engagement whose owner is the user.

        Raises:
            TooManyEngagementsError: The user is in as many as one may be.
        """
        engagements, now = EngagementRepository(session), datetime.now(UTC)
        await engagements.hold_user(user.id)
        await check_place(engagements, user.id)
        engagement = Engagement(name=name, created_at=now, updated_at=now)
        await engagements.add(engagement)
        await engagements.add_member(engagement.id or 0, user.id, Role.OWNER, at=now)
        await terms.before_commit(Seen(engagement, Role.OWNER))
        await session.commit()

    async def list_engagements(
        self, user: Principal, session: AsyncSession, *, cursor: str | None, limit: int
    ) -> Page[Seen]:
        """Give a page of the engagements that the user is in, oldest first.

        Raises:
            InvalidInputError: The cursor is none of ours.
        """
        found = await EngagementRepository(session).page(user.id, after=decode_cursor(cursor), limit=limit)
        return cut_page(found, limit=limit, position=lambda seen: seen.engagement.id)

    async def get(self, user: Principal, session: AsyncSession, engagement_id: int) -> Seen:
        """Give an engagement that the user is in.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not in it.
        """
        seen = await enter(session, Space(user.id, engagement_id))
        assert seen is not None  # noqa: S101  (only one's own space has nothing to be seen)
        return seen

    async def rename(
        self, user: Principal, session: AsyncSession, engagement_id: int, name: str, terms: Terms[Seen]
    ) -> None:
        """Give an engagement another name; the same again changes nothing.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not its owner.
            PreconditionFailedError: It is not as the terms demand.
        """
        engagement, _ = await _hold(user, session, engagement_id, Act.MANAGE)
        terms.check(engagement)
        if name != engagement.name:
            engagement.name, engagement.updated_at = name, datetime.now(UTC)
            engagement.version += 1
            await EngagementRepository(session).save()
        await terms.before_commit(Seen(engagement, Role.OWNER))
        await session.commit()

    async def delete(self, user: Principal, session: AsyncSession, engagement_id: int, terms: Terms[None]) -> None:
        """Delete an engagement: nobody is in it any more, and its tasks are deleted after it.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not its owner.
            PreconditionFailedError: It is not as the terms demand.
        """
        engagement, members = await _hold(user, session, engagement_id, Act.MANAGE)
        terms.check(engagement)
        await _end(session, engagement, user.id, [member.user_id for member in members])
        await terms.before_commit(None)
        await session.commit()
        self._ending.wake()

    async def list_members(self, user: Principal, session: AsyncSession, engagement_id: int) -> list[Member]:
        """Give the members of an engagement that the user is in: owners, editors, viewers, each by when they came.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not in it.
        """
        await enter(session, Space(user.id, engagement_id))
        members = await EngagementRepository(session).members(engagement_id)
        check_role(engagement_id, _role_of(members, user.id), Act.READ)  # removed since: the list itself says so
        return members

    async def change_role(
        self,
        user: Principal,
        session: AsyncSession,
        engagement_id: int,
        member_id: str,
        role: Role,
        terms: Terms[Member],
    ) -> None:
        """Give a member another role, also oneself.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not its owner.
            MemberNotFoundError: No such member.
            LastOwnerError: There would be no owner left.
        """
        engagement, members = await _hold(user, session, engagement_id, Act.MANAGE)
        terms.check(engagement)
        member = _find(members, member_id)
        if role is not Role.OWNER:
            _check_owner_without(members, member)
        await EngagementRepository(session).set_role(engagement_id, member_id, role)
        changed = Member(engagement_id=engagement_id, user_id=member_id, role=role, joined_at=member.joined_at)
        await terms.before_commit(changed)
        await session.commit()

    async def remove(
        self, user: Principal, session: AsyncSession, engagement_id: int, member_id: str, terms: Terms[None]
    ) -> None:
        """Take a member out, also oneself: nothing in the engagement is reached by them from the commit on.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Neither its owner nor oneself.
            MemberNotFoundError: No such member.
            LastOwnerError: There would be no owner left.
        """
        act = Act.READ if member_id == user.id else Act.MANAGE
        engagement, members = await _hold(user, session, engagement_id, act)
        terms.check(engagement)
        _check_owner_without(members, _find(members, member_id))
        await EngagementRepository(session).remove_member(engagement_id, member_id)
        await terms.before_commit(None)
        await session.commit()

    async def transfer(
        self, user: Principal, session: AsyncSession, engagement_id: int, member_id: str, terms: Terms[Seen]
    ) -> None:
        """Make another member owner and the user, who was it, an editor: both or neither.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not its owner.
            MemberNotFoundError: No such member.
        """
        engagement, members = await _hold(user, session, engagement_id, Act.MANAGE)
        terms.check(engagement)
        _find(members, member_id)
        role = Role.OWNER
        if member_id != user.id:
            engagements, role = EngagementRepository(session), Role.EDITOR
            await engagements.set_role(engagement_id, member_id, Role.OWNER)
            await engagements.set_role(engagement_id, user.id, role)
        await terms.before_commit(Seen(engagement, role))
        await session.commit()

    @staticmethod
    async def forget_user(session: AsyncSession, user_id: str) -> int:
        """Take somebody out of all engagements, for good; the caller commits, then calls `forgotten`.

        Where they are the only owner, the editor who has been there longest becomes owner, else the viewer who has.
        Where nobody is left, the engagement is deleted. Their tasks stay with the engagement. Doing it again changes
        nothing.

        Returns:
            In how many engagements they were.
        """
        engagements, invitations = EngagementRepository(session), InvitationRepository(session)
        await engagements.hold_user(user_id)
        found = await engagements.ids_of(user_id)
        for engagement_id in found:
            engagement = await engagements.hold(engagement_id)
            members = await engagements.members(engagement_id)
            others = [member for member in members if member.user_id != user_id]
            if engagement is None or len(others) == len(members):
                continue
            if not others:
                await _end(session, engagement, user_id, [])
                continue
            if others[0].role != Role.OWNER:  # the first of the longest-standing editors, else of the viewers
                await engagements.set_role(engagement_id, others[0].user_id, Role.OWNER)
            await engagements.remove_member(engagement_id, user_id)
        await invitations.forget(user_id)
        return len(found)

    def forgotten(self) -> None:
        """Tell who deletes the tasks of engagements that are gone; it also finds them by itself."""
        self._ending.wake()


class Ending:
    """Is told that an engagement was deleted; see `task_api.engagements.ending`."""

    def wake(self) -> None:
        """Look soon."""


async def check_place(engagements: EngagementRepository, user_id: str) -> None:
    """Make sure that a user, who is held, may be in one more engagement.

    Raises:
        TooManyEngagementsError: They may not.
    """
    if await engagements.count_of(user_id) >= MAX_ENGAGEMENTS:
        raise TooManyEngagementsError


async def _hold(
    user: Principal, session: AsyncSession, engagement_id: int, act: Act
) -> tuple[Engagement, list[Member]]:
    """Hold an engagement, and then see who is in it: whoever waited sees what was committed meanwhile."""
    engagements = EngagementRepository(session)
    engagement = await engagements.hold(engagement_id)
    if engagement is None:
        raise EngagementNotFoundError(engagement_id)
    members = await engagements.members(engagement_id)
    check_role(engagement_id, _role_of(members, user.id), act)
    return engagement, members


def _role_of(members: Sequence[Member], user_id: str) -> str | None:
    return next((member.role for member in members if member.user_id == user_id), None)


async def _end(session: AsyncSession, engagement: Engagement, user_id: str, members: Sequence[str]) -> None:
    engagement.deleted_at = engagement.updated_at = datetime.now(UTC)
    engagement.deleted_by, engagement.deleted_corr_id = user_id, current_corr_id()
    engagement.last_members = sorted(members)
    await EngagementRepository(session).save()
    await EngagementRepository(session).empty(engagement.id or 0)


def _find(members: Sequence[Member], user_id: str) -> Member:
    for member in members:
        if member.user_id == user_id:
            return member
    raise MemberNotFoundError


def _check_owner_without(members: Sequence[Member], member: Member) -> None:
    if all(each.role != Role.OWNER for each in members if each.user_id != member.user_id):
        raise LastOwnerError
