"""The stream of changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from fastapi.sse import format_sse_event
from prometheus_client import Histogram

from chassis.database import Database, DatabaseUnavailableError
from chassis.errors import ApiError
from chassis.identity import Principal
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.engagements.spaces import Space
from task_api.sync.cursors import Cursor
from task_api.sync.live import LiveFeed, Subscription
from task_api.sync.schemas import StreamEnd, TaskChange
from task_api.sync.service import CursorExpiredError, Part, SyncService
from task_api.tasks.models import Task

_PAGE: Final = 100
_RETRY_MS: Final = (1000, 3000)
"""Between these clients wait before they come back, each its own time: a replica that stops lets go of all at once."""
_OUTAGE_PAUSE: Final = 1.0
_lag = Histogram(
    "taskwire_stream_lag_seconds",
    "From a change to its event on an open stream",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)


class ChangeStreams:
    """Makes the streams."""

    def __init__(self, database: Database, sync: SyncService, live: LiveFeed, *, heartbeat: float) -> None:
        """Say what streams are made of.

        Args:
            database: Holds the feed.
            sync: Its rules.
            live: Says when there is something to read.
            heartbeat: Seconds of silence after which a comment is sent.
        """
        self._database, self._sync, self._live, self._heartbeat = database, sync, live, heartbeat

    async def open(
        self, user: Principal, space: Space, subscription: Subscription, cursor: Cursor | None
    ) -> AsyncIterator[bytes]:
        """Begin a stream after a cursor, or with what happens from now on.

        A connection to the database is held only while a page is read, never while one is sent or waited for.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not in it.
            CursorExpiredError: The cursor does not hold any more.
            DatabaseUnavailableError: The feed cannot be read now.
        """
        if cursor is None:
            async with self._live.readers, self._database.session() as session:
                cursor = (await self._sync.now(space, session)).next_cursor
        return self._events(user, space, subscription, cursor, await self._read(space, cursor))

    async def _read(self, space: Space, cursor: Cursor) -> Part:
        async with self._live.readers, self._database.session() as session:
            return await self._sync.since(space, session, cursor, _PAGE)

    async def _events(
        self, user: Principal, space: Space, subscription: Subscription, cursor: Cursor, part: Part
    ) -> AsyncIterator[bytes]:
        # An id without data is no event, but the client keeps it: should the connection break now, it resumes here.
        yield format_sse_event(id=self._sync.write_cursor(space, cursor), retry=random.randint(*_RETRY_MS))  # noqa: S311
        live = False
        while True:
            for task in part.page.tasks:
                yield self._change(space, part, task, live=live)
            cursor = part.next_cursor
            if not part.page.has_more:
                async for comment in self._silence(user, space, subscription):
                    yield comment
                live = True
            if subscription.why is not None:
                yield _end(subscription.why)
            if subscription.ended or _seconds_left(user) <= 0:
                return
            subscription.forget()
            try:
                part = await self._read(space, cursor)
            except (EngagementForbiddenError, EngagementNotFoundError) as error:
                yield _end(error)
                return
            except CursorExpiredError:  # the database was restored: the client comes back and is told so
                return
            except DatabaseUnavailableError:  # passes; a client that came back now would be turned away
                yield format_sse_event(comment="the database does not answer")
                await asyncio.sleep(_OUTAGE_PAUSE)
                subscription.tell()
                part = replace(part, page=replace(part.page, tasks=[]))

    def _change(self, space: Space, part: Part, task: Task, *, live: bool) -> bytes:
        if live:
            _lag.observe(max(0.0, time.time() - task.updated_at.timestamp()))
        change = TaskChange.of(task).model_dump_json()
        place = self._sync.write_cursor(space, self._sync.cursor_after(part, task))
        return format_sse_event(event="change", id=place, data_str=change)

    async def _silence(self, user: Principal, space: Space, subscription: Subscription) -> AsyncIterator[bytes]:
        """Send heartbeats until there is something to read, or the credential has expired.

        In an engagement each heartbeat is followed by a reading: it finds out who has been removed since.
        """
        while (left := _seconds_left(user)) > 0:
            if await subscription.hears(min(self._heartbeat, left)):
                return
            if left > self._heartbeat:
                yield format_sse_event(comment="heartbeat")
                if space.engagement_id is not None:
                    return


def _end(why: ApiError) -> bytes:
    return format_sse_event(event="end", data_str=StreamEnd.of(why).model_dump_json())


def _seconds_left(user: Principal) -> float:
    return float("inf") if user.expires_at is None else user.expires_at - time.time()
