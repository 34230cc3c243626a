"""All SQL about calendar feeds. What reads or locks for a caller starts from the owner."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import DateTime, TextualSelect, bindparam, delete, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.calendar_feeds.models import CalendarFeed
from task_api.tasks.models import DUE_OR_NEVER

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('calendar feeds of ' || :owner_id, 0))")
# Ends where tasks without a due date begin. As a row: of two bounds of one column PostgreSQL would take it that hardly
# anything is between them, and so read and sort all instead of going along the index as far as the limit.
_HAS_DUE_DATE: Final = f"(owner_id, {DUE_OR_NEVER}) < (:owner_id, 'infinity'::timestamptz)"
_SHOWN: Final = (
    "id, title, left(description, :description_chars) AS description, priority, due_at, completed_at, tags, recurrence,"
    " version, created_at, updated_at"
)


def _nearest(condition: str) -> TextualSelect:
    """Go both ways from now along an index of due dates; neither way further than the limit."""
    mine = f"owner_id = :owner_id AND deleted_at IS NULL {condition}"
    statement = text(
        f"""
        SELECT {_SHOWN.replace("left(description, :description_chars) AS ", "")} FROM (
            (SELECT {_SHOWN}, 0 AS past, {DUE_OR_NEVER} - :now AS distance FROM tasks
             WHERE {mine} AND {DUE_OR_NEVER} >= :now AND {_HAS_DUE_DATE}
             ORDER BY {DUE_OR_NEVER}, id LIMIT :limit)
            UNION ALL
            (SELECT {_SHOWN}, 1 AS past, :now - {DUE_OR_NEVER} AS distance FROM tasks
             WHERE {mine} AND {DUE_OR_NEVER} < :now
             ORDER BY {DUE_OR_NEVER} DESC, id DESC LIMIT :limit)
        ) AS near
        ORDER BY past, distance, id LIMIT :limit
        """  # noqa: S608 (no input)
    ).bindparams(bindparam("now", type_=DateTime(timezone=True)))
    return statement.columns(recurrence=JSONB)


_NEAREST: Final = {
    None: _nearest(""),
    False: _nearest("AND completed IS false"),
    True: _nearest("AND completed IS true"),
}


@dataclass(frozen=True)
class FeedTask:
    """What a feed tells of a task; the description cut off after so many characters as were asked for."""

    id: int
    title: str
    description: str | None
    priority: str
    due_at: datetime
    completed_at: datetime | None
    tags: list[str]
    recurrence: dict[str, str] | None
    version: int
    created_at: datetime
    updated_at: datetime


class CalendarFeedRepository:
    """Calendar feeds in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def hold(self, owner_id: str) -> None:
        """Let no other transaction count or add feeds of this owner until this one ends."""
        await (await self._session.connection()).execute(_LOCK, {"owner_id": owner_id})

    async def count(self, owner_id: str) -> int:
        """Count an owner's feeds."""
        statement = select(func.count()).select_from(CalendarFeed).where(col(CalendarFeed.owner_id) == owner_id)
        return (await self._session.exec(statement)).one()

    async def add(self, feed: CalendarFeed) -> None:
        """Insert a feed; it has its id afterwards."""
        self._session.add(feed)
        await self._session.flush()

    async def all_of(self, owner_id: str) -> list[CalendarFeed]:
        """Give an owner's feeds, oldest first."""
        statement = select(CalendarFeed).where(col(CalendarFeed.owner_id) == owner_id).order_by(col(CalendarFeed.id))
        return list((await self._session.exec(statement)).all())

    async def lock(self, feed_id: int, *, owner_id: str) -> CalendarFeed | None:
        """Give an owner's own feed, and hold its row until the transaction ends."""
        statement = select(CalendarFeed).where(col(CalendarFeed.id) == feed_id, col(CalendarFeed.owner_id) == owner_id)
        return (await self._session.exec(statement.with_for_update())).first()

    async def exists(self, feed_id: int) -> bool:
        """Tell whether there is such a feed, whoever owns it."""
        statement = select(CalendarFeed.id).where(col(CalendarFeed.id) == feed_id)
        return (await self._session.exec(statement)).first() is not None

    async def delete(self, feed_id: int, *, owner_id: str) -> bool:
        """Delete an owner's own feed; False when there is none."""
        statement = delete(CalendarFeed).where(col(CalendarFeed.id) == feed_id, col(CalendarFeed.owner_id) == owner_id)
        return (await (await self._session.connection()).execute(statement)).rowcount > 0

    async def save(self) -> None:
        """Write what was changed of a feed."""
        await self._session.flush()

    async def find_by_digest(self, digest: bytes) -> CalendarFeed | None:
        """Give the feed whose token has this hash."""
        return (await self._session.exec(select(CalendarFeed).where(col(CalendarFeed.token_digest) == digest))).first()

    async def nearest_tasks(
        self, owner_id: str, *, completed: bool | None, now: datetime, limit: int, description_chars: int
    ) -> list[FeedTask]:
        """Give an owner's tasks that have a due date: those to come, soonest first, then those past, newest first."""
        statement = _NEAREST[completed]
        parameters = {"owner_id": owner_id, "now": now, "limit": limit, "description_chars": description_chars}
        rows = (await (await self._session.connection()).execute(statement, parameters)).all()
        return [FeedTask(*row) for row in rows]
