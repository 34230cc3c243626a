"""All SQL about invitations."""

from datetime import datetime

from sqlalchemy import ColumnElement, delete, or_
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.engagements.models import Invitation


def _open(engagement_id: int, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        col(Invitation.engagement_id) == engagement_id,
        col(Invitation.accepted_by).is_(None),
        col(Invitation.expires_at) > now,
    )


class InvitationRepository:
    """Invitations in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, digest: bytes) -> Invitation | None:
        """Give the invitation whose token has this hash, whatever became of it."""
        statement = select(Invitation).where(col(Invitation.token_digest) == digest)
        return (await self._session.exec(statement)).first()

    async def read_again(self, invitation: Invitation) -> Invitation | None:
        """Give an invitation as it is now; None when it was revoked meanwhile."""
        statement = select(Invitation).where(col(Invitation.id) == invitation.id)
        return (await self._session.exec(statement.execution_options(populate_existing=True))).first()

    async def count_open(self, engagement_id: int, *, now: datetime) -> int:
        """Count the invitations that can still be accepted."""
        statement = select(func.count()).select_from(Invitation).where(*_open(engagement_id, now))
        return (await self._session.exec(statement)).one()

    async def list_open(self, engagement_id: int, *, now: datetime) -> list[Invitation]:
        """Give the invitations that can still be accepted, oldest first."""
        statement = select(Invitation).where(*_open(engagement_id, now)).order_by(col(Invitation.id))
        return list((await self._session.exec(statement)).all())

    async def add(self, invitation: Invitation) -> None:
        """Insert an invitation; it has its id afterwards."""
        self._session.add(invitation)
        await self._session.flush()

    async def save(self) -> None:
        """Write what was changed of an invitation."""
        await self._session.flush()

    async def revoke(self, engagement_id: int, invitation_id: int, *, now: datetime) -> bool:
        """Delete an invitation that can still be accepted; False when there is none."""
        its = (*_open(engagement_id, now), col(Invitation.id) == invitation_id)
        return (await (await self._session.connection()).execute(delete(Invitation).where(*its))).rowcount > 0

    async def drop_expired(self, engagement_id: int, *, now: datetime) -> None:
        """Delete those of an engagement whose time is over, accepted or not."""
        its = (col(Invitation.engagement_id) == engagement_id, col(Invitation.expires_at) <= now)
        await (await self._session.connection()).execute(delete(Invitation).where(*its))

    async def forget(self, user_id: str) -> None:
        """Delete those that name a user: that are for them alone, or that they have accepted."""
        theirs = or_(col(Invitation.subject) == user_id, col(Invitation.accepted_by) == user_id)
        await (await self._session.connection()).execute(delete(Invitation).where(theirs))
