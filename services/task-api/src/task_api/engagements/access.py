"""The guard of everything inside of an engagement, for the features that have something there.

A guard that ran before the route would say who *was* a member: these say it within the transaction that reads or
writes. By-id statements have it inside (`reach`), lists too (`reach.still_in`), and writes hold it until they commit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ForbiddenError, NotFoundError
from task_api.engagements.repository import EngagementRepository, Seen
from task_api.engagements.roles import MAY, Act, Role, roles_for
from task_api.engagements.spaces import Space, engagement_of

Recipients = tuple[str, ...] | None
"""Who is told of a change: all members of the engagement; None for a personal task, whose owner is told."""


class EngagementNotFoundError(NotFoundError):
    """There is no such engagement, or it was deleted."""

    code = "engagement_not_found"

    def __init__(self, engagement_id: int) -> None:
        super().__init__(f"There is no engagement {engagement_id}.")


class EngagementForbiddenError(ForbiddenError):
    """The caller is not in the engagement, or the role there is too small."""

    code = "engagement_forbidden"

    def __init__(self, engagement_id: int, act: Act, role: str | None) -> None:
        if role is None:
            super().__init__(f"You are not a member of engagement {engagement_id}.")
        else:
            wanted = " or ".join(roles_for(act))
            super().__init__(f"In engagement {engagement_id} you are {role}, and this needs {wanted}.")


def check_role(engagement_id: int, role: str | None, act: Act) -> None:
    """Let somebody of a role pass who may do something.

    Raises:
        EngagementForbiddenError: They may not.
    """
    if role is None or act not in MAY[Role(role)]:
        raise EngagementForbiddenError(engagement_id, act, role)


async def enter(session: AsyncSession, space: Space, act: Act = Act.READ) -> Seen | None:
    """Let somebody into a space for something; asks nothing for one's own, whose answer is None.

    Raises:
        EngagementNotFoundError: No such engagement.
        EngagementForbiddenError: Not in it, or too small a role.
    """
    if space.engagement_id is None:
        return None
    seen = await EngagementRepository(session).find(space.engagement_id, space.user_id)
    if seen is None:
        raise EngagementNotFoundError(space.engagement_id)
    check_role(space.engagement_id, seen.role, act)
    return seen


async def acts_of(session: AsyncSession, user_id: str, engagement_id: int) -> frozenset[Act] | None:
    """Give what somebody may do in an engagement, which is nothing for who is not a member; None: there is none."""
    seen = await EngagementRepository(session).find(engagement_id, user_id)
    if seen is None:
        return None
    return frozenset() if seen.role is None else MAY[Role(seen.role)]


async def hold(session: AsyncSession, user_id: str, owner_id: str, act: Act = Act.WRITE) -> Recipients:
    """Let somebody write what an owner has, and hold their right to it until the transaction ends.

    Whoever takes it from them, or changes who else is a member, waits for the commit. Asks nothing for a user's own.

    Returns:
        Who is to be told of the change.

    Raises:
        EngagementForbiddenError: Not in it (any more), or too small a role.
    """
    engagement_id = engagement_of(owner_id)
    if engagement_id is None:
        return None
    members = (await EngagementRepository(session).share([engagement_id])).get(engagement_id, {})
    check_role(engagement_id, members.get(user_id), act)
    return tuple(members)


@dataclass(frozen=True)
class Held:
    """The spaces that somebody may write in, held until the transaction ends."""

    user_id: str
    members: dict[int, dict[str, str]]

    def check(self, owner_id: str) -> Recipients:
        """Give who is to be told of a change of what an owner has.

        Raises:
            EngagementForbiddenError: Not in it (any more), or too small a role.
        """
        engagement_id = engagement_of(owner_id)
        if engagement_id is None:
            return None
        members = self.members.get(engagement_id, {})
        check_role(engagement_id, members.get(self.user_id), Act.WRITE)
        return tuple(members)


async def hold_many(session: AsyncSession, user_id: str, owner_ids: Iterable[str]) -> Held:
    """Hold what several owners have, as `hold` does for one; asks nothing when all of it is users'."""
    wanted = {engagement_of(owner_id) for owner_id in owner_ids} - {None}
    ids = [engagement_id for engagement_id in wanted if engagement_id is not None]
    return Held(user_id, await EngagementRepository(session).share(ids) if ids else {})
