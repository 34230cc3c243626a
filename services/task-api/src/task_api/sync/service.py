"""The rules of the feed: where a reader may go on, and when it must begin again."""

import time
from dataclasses import dataclass
from typing import ClassVar, Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ApiError
from chassis.pagination import MAX_BIGINT
from task_api.engagements.access import enter
from task_api.engagements.spaces import Space
from task_api.sync.cursors import Cursor, CursorCodec, digest
from task_api.sync.models import BEGINNING, FeedPage, Position
from task_api.sync.repository import FeedRepository
from task_api.tasks.models import Task

_DAY: Final = 86_400.0


class CursorExpiredError(ApiError):
    """The cursor is too old, or from before a restore of the database: sync in full, without a cursor."""

    status: ClassVar[int] = 410
    code: ClassVar[str] = "cursor_expired"


@dataclass(frozen=True)
class Part:
    """A page of the feed of one space.

    Attributes:
        page: What changed.
        full_until: Of the full sync that it belongs to, 0 when to none.
        next_cursor: After all of it.
    """

    page: FeedPage
    full_until: int
    next_cursor: Cursor


class SyncService:
    """What can be read of the feed, from where on."""

    def __init__(self, codec: CursorCodec, *, cursor_days: int) -> None:
        self._codec = codec
        self._max_age = cursor_days * _DAY

    def read_cursor(self, space: Space, cursor: str, *, field: str) -> Cursor:
        """Read a cursor that came in a field of a request.

        Raises:
            InvalidCursorError: Not a cursor of this user in this space.
        """
        return self._codec.read(space.key, cursor, field=field)

    def write_cursor(self, space: Space, cursor: Cursor) -> str:
        """Give a cursor as the text that this user may come back with to this space."""
        return self._codec.write(space.key, cursor)

    async def begin(self, space: Space, session: AsyncSession, limit: int) -> Part:
        """Give the first part of everything there is.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not in it.
        """
        await enter(session, space)
        feed = FeedRepository(session)
        if await feed.restamp(space.owner_id):
            await session.commit()
        page = await feed.page(space, after=BEGINNING, limit=limit)
        return self._part(page, full_until=page.head.horizon)

    async def since(self, space: Space, session: AsyncSession, cursor: Cursor, limit: int) -> Part:
        """Give what changed since a cursor.

        Raises:
            EngagementNotFoundError: No such engagement (any more).
            EngagementForbiddenError: Not in it (any more).
            CursorExpiredError: It does not hold any more.
        """
        await enter(session, space)
        # Tombstones go when deleted tasks are purged, so a reader that was away for longer may have missed some.
        if cursor.age(time.time()) > self._max_age:
            raise CursorExpiredError("The cursor is too old to tell what was deleted since; sync in full.")
        page = await FeedRepository(session).page(space, after=cursor.position, limit=limit)
        if digest(page.head.history) != cursor.history:
            raise CursorExpiredError("The cursor is from before the database was restored or moved; sync in full.")
        return self._part(page, full_until=cursor.position.full_until)

    async def now(self, space: Space, session: AsyncSession) -> Part:
        """Give an empty part: the place after everything that may be read now."""
        page = await FeedRepository(session).page(space, after=Position(MAX_BIGINT, 0), limit=1)
        return self._part(page, full_until=0)

    def cursor_after(self, part: Part, task: Task) -> Cursor:
        """Give the cursor of the place after one of a part's tasks."""
        position = Position(task.changed_xid or 0, task.id or 0, part.full_until)
        return Cursor.of(position, part.page.head.history, time.time())

    def _part(self, page: FeedPage, *, full_until: int) -> Part:
        if page.has_more:
            last = page.tasks[-1]
            position = Position(last.changed_xid or 0, last.id or 0, full_until)
        else:
            # Everything below the horizon is told, so the next part begins there, and the full sync is over.
            position = Position(page.head.horizon, 0)
        return Part(page, full_until, Cursor.of(position, page.head.history, time.time()))
