"""All SQL about engagements and their members.

Whoever changes who is a member holds the row of the engagement first, and whoever writes inside of it shares that row:
so the changes take turns, and none comes between a write and its commit.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, any_, case, delete, func, literal, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.engagements.models import Engagement, Invitation, Member

_LOCK_USER: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('engagements of ' || :user_id, 0))")
_SHARE: Final = text(
    "SELECT id FROM engagements WHERE id = ANY(:ids) AND deleted_at IS NULL ORDER BY id FOR SHARE"
).columns(id=BigInteger)


class Seen(NamedTuple):
    """An engagement, and the role that somebody has in it."""

    engagement: Engagement
    role: str | None


class EngagementRepository:
    """Engagements in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def hold_user(self, user_id: str) -> None:
        """Let no other transaction add this user to engagements until this one ends; before any engagement is held."""
        await (await self._session.connection()).execute(_LOCK_USER, {"user_id": user_id})

    async def find(self, engagement_id: int, user_id: str) -> Seen | None:
        """Give an engagement that is there, whoever is in it, and the user's role."""
        its = (col(Member.engagement_id) == col(Engagement.id)) & (col(Member.user_id) == user_id)
        statement = select(Engagement, Member.role).outerjoin(Member, its)
        statement = statement.where(col(Engagement.id) == engagement_id, col(Engagement.deleted_at).is_(None))
        row = (await self._session.exec(statement)).first()
        return None if row is None else Seen(row[0], row[1])

    async def hold(self, engagement_id: int) -> Engagement | None:
        """Give an engagement that is there, and let nobody else change who is in it until the transaction ends."""
        statement = select(Engagement).where(col(Engagement.id) == engagement_id, col(Engagement.deleted_at).is_(None))
        return (await self._session.exec(statement.with_for_update(key_share=True))).first()

    async def share(self, engagement_ids: Sequence[int]) -> dict[int, dict[str, str]]:
        """Give who is in these engagements, by role, and let nobody change that until the transaction ends.

        Two statements: the second sees what the first may have waited for.
        """
        connection = await self._session.connection()
        held = (await connection.execute(_SHARE, {"ids": sorted(engagement_ids)})).scalars().all()
        found: dict[int, dict[str, str]] = {engagement_id: {} for engagement_id in held}
        if found:
            statement = select(Member.engagement_id, Member.user_id, Member.role)
            statement = statement.where(col(Member.engagement_id) == any_(literal(list(held), ARRAY(BigInteger))))
            for engagement_id, user_id, role in await self._session.exec(statement.order_by(col(Member.user_id))):
                found[engagement_id][user_id] = role
        return found

    async def page(self, user_id: str, *, after: int | None, limit: int) -> list[Seen]:
        """Give the engagements that a user is in, oldest first, and one more."""
        statement = select(Engagement, Member.role).join(Member, col(Member.engagement_id) == col(Engagement.id))
        statement = statement.where(col(Member.user_id) == user_id)
        if after is not None:
            statement = statement.where(col(Member.engagement_id) > after)
        statement = statement.order_by(col(Member.engagement_id)).limit(limit + 1)
        return [Seen(engagement, role) for engagement, role in await self._session.exec(statement)]

    async def ids_of(self, user_id: str) -> list[int]:
        """Give all engagements that a user is in, in the order in which they are to be held."""
        statement = select(Member.engagement_id).where(col(Member.user_id) == user_id)
        return list((await self._session.exec(statement.order_by(col(Member.engagement_id)))).all())

    async def count_of(self, user_id: str) -> int:
        """Count the engagements that a user is in."""
        statement = select(func.count()).select_from(Member).where(col(Member.user_id) == user_id)
        return (await self._session.exec(statement)).one()

    async def add(self, engagement: Engagement) -> None:
        """Insert an engagement; it has its id afterwards."""
        self._session.add(engagement)
        await self._session.flush()

    async def save(self) -> None:
        """Write what was changed of an engagement."""
        await self._session.flush()

    async def members(self, engagement_id: int) -> list[Member]:
        """Give the members of an engagement: owners first, then editors, each group by when they came."""
        rank = case({"owner": 0, "editor": 1}, value=col(Member.role), else_=2)
        statement = select(Member).where(col(Member.engagement_id) == engagement_id)
        return list(
            (await self._session.exec(statement.order_by(rank, col(Member.joined_at), col(Member.user_id)))).all()
        )

    async def add_member(self, engagement_id: int, user_id: str, role: str, *, at: datetime) -> Member:
        """Let somebody in who was not."""
        member = Member(engagement_id=engagement_id, user_id=user_id, role=role, joined_at=at)
        self._session.add(member)
        await self._session.flush()
        return member

    async def set_role(self, engagement_id: int, user_id: str, role: str) -> None:
        """Give a member another role."""
        statement: Any = update(Member).where(*_one(engagement_id, user_id)).values(role=role)
        await (await self._session.connection()).execute(statement)

    async def remove_member(self, engagement_id: int, user_id: str) -> None:
        """Take a member out."""
        await (await self._session.connection()).execute(delete(Member).where(*_one(engagement_id, user_id)))

    async def empty(self, engagement_id: int) -> None:
        """Take all members and invitations out."""
        connection = await self._session.connection()
        await connection.execute(delete(Invitation).where(col(Invitation.engagement_id) == engagement_id))
        await connection.execute(delete(Member).where(col(Member.engagement_id) == engagement_id))


def _one(engagement_id: int, user_id: str) -> tuple[Any, ...]:
    return col(Member.engagement_id) == engagement_id, col(Member.user_id) == user_id
