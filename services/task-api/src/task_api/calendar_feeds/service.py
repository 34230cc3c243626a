"""The rules of calendar feeds: whose they are, how many there may be, and what a token opens."""

import asyncio
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import icalendar
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import Database
from chassis.errors import ApiError, ForbiddenError, NotFoundError
from chassis.identity import Principal
from task_api.calendar_feeds.models import CalendarFeed
from task_api.calendar_feeds.rendering import FORM_OF_FEEDS, MAX_DESCRIPTION_CHARS, render
from task_api.calendar_feeds.repository import CalendarFeedRepository, FeedTask
from task_api.calendar_feeds.schemas import CalendarFeedCreate, Form
from task_api.secret_tokens import FEED_PREFIX, SecretToken, digest_of, new_token

MAX_FEEDS: Final = 10
"""Feeds of one user."""
MAX_TASKS: Final = 1_000
"""Tasks in one feed."""
_NO_DIGEST: Final = bytes(32)


class CalendarFeedNotFoundError(NotFoundError):
    """There is no such feed, or it was revoked."""

    code = "calendar_feed_not_found"


class CalendarFeedForbiddenError(ForbiddenError):
    """The feed is someone else's."""

    code = "calendar_feed_forbidden"


class TooManyCalendarFeedsError(ApiError):
    """The caller has as many feeds as one may have."""

    status, code = 409, "too_many_calendar_feeds"

    def __init__(self) -> None:
        super().__init__(f"You have {MAX_FEEDS} calendar feeds, which is the limit; revoke one first.")


@dataclass(frozen=True)
class IssuedFeed:
    """A feed and the token that was just made for it."""

    feed: CalendarFeed
    token: SecretToken


@dataclass(frozen=True)
class FeedContent:
    """What is in a feed now, not yet as iCalendar.

    Attributes:
        etag: A strong entity tag: the same as long as the calendar is the same, in every replica.
    """

    name: str
    form: Form
    tasks: list[FeedTask]
    etag: str

    async def rendered(self) -> bytes:
        """Give the calendar, made in a thread of its own."""
        return await asyncio.to_thread(render, self.name, self.tasks, self.form)


class CalendarFeeds:
    """What can be done with feeds, by whom."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user: Principal, session: AsyncSession, draft: CalendarFeedCreate) -> IssuedFeed:
        """Make a feed of the user's tasks.

        Raises:
            TooManyCalendarFeedsError: The user has as many as one may have.
        """
        feeds, now, token = CalendarFeedRepository(session), datetime.now(UTC), new_token(FEED_PREFIX)
        await feeds.hold(user.id)
        if await feeds.count(user.id) >= MAX_FEEDS:
            raise TooManyCalendarFeedsError
        feed = CalendarFeed(
            owner_id=user.id,
            name=draft.name,
            token_digest=token.digest,
            token_hint=token.hint,
            created_at=now,
            token_created_at=now,
        )
        await feeds.add(feed)
        await session.commit()
        return IssuedFeed(feed, token)

    async def list_feeds(self, user: Principal, session: AsyncSession) -> list[CalendarFeed]:
        """Give the user's feeds, oldest first."""
        return await CalendarFeedRepository(session).all_of(user.id)

    async def rotate(self, user: Principal, session: AsyncSession, feed_id: int) -> IssuedFeed:
        """Give a feed another token; the one before opens nothing from now on.

        Raises:
            CalendarFeedNotFoundError: No such feed.
            CalendarFeedForbiddenError: Someone else's.
        """
        feeds, token = CalendarFeedRepository(session), new_token(FEED_PREFIX)
        feed = await feeds.lock(feed_id, owner_id=user.id)
        if feed is None:
            raise await _refusal(feeds, feed_id)
        feed.token_digest, feed.token_hint, feed.token_created_at = token.digest, token.hint, datetime.now(UTC)
        await feeds.save()
        await session.commit()
        return IssuedFeed(feed, token)

    async def revoke(self, user: Principal, session: AsyncSession, feed_id: int) -> None:
        """Delete a feed; its token opens nothing from now on.

        Raises:
            CalendarFeedNotFoundError: No such feed.
            CalendarFeedForbiddenError: Someone else's.
        """
        feeds = CalendarFeedRepository(session)
        if not await feeds.delete(feed_id, owner_id=user.id):
            raise await _refusal(feeds, feed_id)
        await session.commit()

    async def open(self, secret: str, form: Form, *, completed: bool | None) -> FeedContent:
        """Give what a token opens. Whatever else is given takes the same way: a hash, and a look for it.

        The connection is given back before the calendar is made of it.

        Raises:
            CalendarFeedNotFoundError: The token opens nothing; never says why.
        """
        digest = digest_of(secret)
        async with self._database.session() as session:
            feeds = CalendarFeedRepository(session)
            feed = await feeds.find_by_digest(digest)
            if not hmac.compare_digest(digest, _NO_DIGEST if feed is None else feed.token_digest) or feed is None:
                raise CalendarFeedNotFoundError("There is no calendar feed at this address.")
            tasks = await feeds.nearest_tasks(
                feed.owner_id,
                completed=completed,
                now=datetime.now(UTC),
                limit=MAX_TASKS,
                description_chars=MAX_DESCRIPTION_CHARS + 1,
            )
            return FeedContent(feed.name, form, tasks, _etag(feed.name, form, tasks))


def _etag(name: str, form: Form, tasks: list[FeedTask]) -> str:
    """Make the tag of ids and versions, which is much cheaper than of the calendar itself."""
    parts = (FORM_OF_FEEDS, icalendar.__version__, name, form, [(task.id, task.version) for task in tasks])
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


async def _refusal(feeds: CalendarFeedRepository, feed_id: int) -> ApiError:
    if await feeds.exists(feed_id):
        return CalendarFeedForbiddenError(f"Calendar feed {feed_id} belongs to someone else.")
    return CalendarFeedNotFoundError(f"There is no calendar feed {feed_id}.")
