"""All SQL about notifications. Every statement that reads or writes for a caller starts from `_owned_by`."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, func, text
from sqlmodel import col, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from notifier.inbox.models import Notification

_HOLD: Final = text("LOCK TABLE notifications IN SHARE ROW EXCLUSIVE MODE")
_ERASE: Final = text(
    """
    DELETE FROM notifications
    WHERE id = ANY (ARRAY(SELECT id FROM notifications WHERE owner_id = :owner_id LIMIT CAST(:limit AS bigint)))
    """
)


def _owned_by(owner_id: str, unread: bool | None = None) -> list[ColumnElement[bool]]:
    conditions = [col(Notification.owner_id) == owner_id]
    if unread is not None:
        read_at = col(Notification.read_at)
        conditions.append(read_at.is_(None) if unread else read_at.is_not(None))
    return conditions


class NotificationRepository:
    """Notifications in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add_all(self, notifications: Sequence[Notification]) -> None:
        """Insert notifications."""
        self._session.add_all(notifications)
        await self._session.flush()

    async def hold(self) -> None:
        """Wait for everybody who is writing notifications, and have all others wait for this transaction."""
        await (await self._session.connection()).execute(_HOLD)

    async def erase(self, owner_id: str, *, limit: int | None = None) -> int:
        """Delete notifications of somebody, so many at most; gives how many there were."""
        connection = await self._session.connection()
        return (await connection.execute(_ERASE, {"owner_id": owner_id, "limit": limit})).rowcount

    async def page(self, *, owner_id: str, unread: bool | None, after_id: int | None, limit: int) -> list[Notification]:
        """Give a caller's notifications, newest first; `after_id` is the last id of the page before."""
        statement = select(Notification).where(*_owned_by(owner_id, unread))
        if after_id is not None:
            statement = statement.where(col(Notification.id) < after_id)
        statement = statement.order_by(col(Notification.id).desc()).limit(limit)
        return list((await self._session.exec(statement)).all())

    async def count(self, *, owner_id: str, unread: bool | None) -> int:
        """Count what `page` would go through."""
        statement = select(func.count()).select_from(Notification).where(*_owned_by(owner_id, unread))
        return (await self._session.exec(statement)).one()

    async def mark_read(self, notification_id: int, *, owner_id: str) -> Notification | None:
        """Mark a caller's own notification as read; one that was read keeps its time."""
        statement = (
            update(Notification)
            .where(*_owned_by(owner_id), col(Notification.id) == notification_id)
            .values(read_at=func.coalesce(col(Notification.read_at), func.now()))
            .returning(Notification)
        )
        marked: Notification | None = (await self._session.exec(statement)).scalar_one_or_none()
        return marked

    async def exists(self, notification_id: int) -> bool:
        """Tell whether there is such a notification, whoever owns it."""
        return await self._session.get(Notification, notification_id) is not None
