"""The rules of the in-app inbox: whom a change concerns is told of it once.

Of a personal task that is its owner, whoever made the change; of one in an engagement all who were members when it was
made, but not who made it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.erased_subjects import ErasedSubjects
from chassis.errors import ForbiddenError, NotFoundError
from chassis.identity import Principal
from chassis.inbox import ReceivedEvent
from chassis.pagination import Page, cut_page, decode_cursor
from notifier.inbox.models import Notification
from notifier.inbox.repository import NotificationRepository
from notifier.inbox.wording import details, headline
from task_events import TaskEvent


class NotificationNotFoundError(NotFoundError):
    """There is no such notification."""

    code = "notification_not_found"


class NotificationForbiddenError(ForbiddenError):
    """The notification is someone else's."""

    code = "notification_forbidden"


@dataclass(frozen=True)
class NotificationFilter:
    """Which of one's own notifications to list."""

    unread: bool | None
    limit: int
    cursor: str | None
    total: bool


class Notifier:
    """Tells people what happened to their tasks and to those they share.

    Args:
        erased: Whom nothing is told any more.
    """

    def __init__(self, erased: ErasedSubjects) -> None:
        self._erased = erased

    async def notify(self, session: AsyncSession, received: Sequence[ReceivedEvent]) -> None:
        """Write the notifications of events that were not seen before; the caller commits.

        A stale event makes one too: it tells of a change that was made, says when, and is only late. Whoever was
        told of a newer change first would otherwise never hear of this one, and what people are told would depend
        on the order in which events happen to arrive.
        """
        notifications = NotificationRepository(session)
        told = [(item.event, user_id) for item in received for user_id in _concerned(item.event)]
        await notifications.add_all([_notification_of(event, user_id) for event, user_id in told])
        # After they were added, not before: so the erasure either waits for us and finds them, or is seen here.
        for user_id in await self._erased.among(session, {user_id for _, user_id in told}):
            await notifications.erase(user_id)


class InboxData:
    """What the inbox holds of users, for their erasure."""

    async def hold(self, session: AsyncSession) -> None:
        """Wait for those who are adding notifications, and have all others wait."""
        await NotificationRepository(session).hold()

    async def erase_some(self, session: AsyncSession, subject: str, *, limit: int) -> int:
        """Delete so many notifications of a user at most; gives how many there were."""
        return await NotificationRepository(session).erase(subject, limit=limit)


def _concerned(event: TaskEvent) -> list[str]:
    data = event.data
    if data.recipients is None:
        return [data.task.owner_id]
    return [user_id for user_id in dict.fromkeys(data.recipients) if user_id != data.actor.id]


def _notification_of(event: TaskEvent, user_id: str) -> Notification:
    return Notification(
        owner_id=user_id,
        event_id=event.id,
        task_id=event.data.task.id,
        type=event.type.value,
        title=headline(event),
        body=details(event),
        occurred_at=event.data.occurred_at,
    )


async def list_notifications(user: Principal, session: AsyncSession, wanted: NotificationFilter) -> Page[Notification]:
    """Give a page of the user's notifications, newest first.

    Raises:
        InvalidInputError: The cursor is none of ours.
    """
    notifications = NotificationRepository(session)
    found = await notifications.page(
        owner_id=user.id,
        unread=wanted.unread,
        after_id=decode_cursor(wanted.cursor),
        limit=wanted.limit + 1,
    )
    total = await notifications.count(owner_id=user.id, unread=wanted.unread) if wanted.total else None
    return cut_page(found, limit=wanted.limit, position=lambda notification: notification.id, total=total)


async def mark_read(user: Principal, session: AsyncSession, notification_id: int) -> Notification:
    """Mark one of the user's notifications as read; doing it again changes nothing.

    Raises:
        NotificationNotFoundError: No such notification.
        NotificationForbiddenError: Someone else's.
    """
    notifications = NotificationRepository(session)
    notification = await notifications.mark_read(notification_id, owner_id=user.id)
    if notification is None:
        if await notifications.exists(notification_id):
            raise NotificationForbiddenError(f"Notification {notification_id} belongs to someone else.")
        raise NotificationNotFoundError(f"There is no notification {notification_id}.")
    await session.commit()
    return notification
