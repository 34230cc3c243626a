"""Tells open streams that there is something to read, whichever replica it was written at.

One loop per replica asks for the users of all its streams together; a commit of this process wakes it, those of others
it finds within the poll interval. It only says *that* there is something: each stream then reads the feed from its own
cursor, and only once its reader has taken what it read before, so nothing is ever queued for anybody.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import ClassVar, Final

from prometheus_client import Gauge

from chassis.database import Database, DatabaseUnavailableError
from chassis.errors import ApiError, UnavailableError
from chassis.logging import get_logger
from chassis.periodic import in_background
from task_api.sync.repository import FeedRepository

_REST: Final = 0.05
"""Seconds between two looks when one commit follows the other."""
_READERS: Final = 4
"""Streams that may read at the same time; requests must always find a connection."""

_open_streams = Gauge("taskwire_streams_open", "Streams of changes that are open at this replica")
_held_back = Gauge(
    "taskwire_feed_held_back_transactions",
    "Transaction ids between the oldest that has not ended, where the feed stops, and the newest",
)
_logger = get_logger(__name__)


class TooManyStreamsError(ApiError):
    """The user has as many streams open as one may."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "too_many_streams"


class StreamsExhaustedError(UnavailableError):
    """This replica serves as many streams as it may."""

    code = "streams_exhausted"


class Subscription:
    """One open stream's ear.

    Attributes:
        why: What a request would be told now, when that is why it has ended.
    """

    def __init__(self, user_id: str, owner_id: str, key_id: str | None) -> None:
        """Listen for changes of what an owner has, on behalf of a user, by an API key if it is one."""
        self.user_id, self.owner_id, self.key_id = user_id, owner_id, key_id
        self.ended = False
        self.why: ApiError | None = None
        self._heard = asyncio.Event()

    def tell(self) -> None:
        """Say that there may be something to read."""
        self._heard.set()

    def end(self, why: ApiError | None = None) -> None:
        """Say that this is the end."""
        self.ended, self.why = True, why
        self.tell()

    def forget(self) -> None:
        """Take note: call it before reading, so that what comes while reading is heard."""
        self._heard.clear()

    async def hears(self, within: float) -> bool:
        """Wait until told, or until so many seconds are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._heard.wait()
        return self._heard.is_set()


class LiveFeed:
    """The open streams of this replica."""

    def __init__(self, database: Database, *, poll_interval: float, per_user: int, per_replica: int) -> None:
        """Prepare; `running` starts it.

        Args:
            database: Holds the feed.
            poll_interval: Seconds between looks when nobody calls `wake`.
            per_user: Streams one user may have open here.
            per_replica: Streams of all users together.
        """
        self.readers = asyncio.Semaphore(_READERS)
        self._database, self._poll_interval = database, poll_interval
        self._per_user, self._per_replica = per_user, per_replica
        self._subscriptions: set[Subscription] = set()
        self._users: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self._seen: int | None = None
        self._stopping = False

    def wake(self) -> None:
        """Look soon: something was committed."""
        self._woken.set()

    @contextmanager
    def subscribed(
        self, user_id: str, owner_id: str | None = None, *, key_id: str | None = None
    ) -> Iterator[Subscription]:
        """Open a stream's ear for as long as the block lasts.

        Args:
            user_id: Whose stream it is.
            owner_id: Of the tasks, when not the user.
            key_id: The API key it is opened with, if it is one.

        Raises:
            TooManyStreamsError: The user has enough of them.
            StreamsExhaustedError: So has this replica.
        """
        if self._users[user_id] >= self._per_user:
            detail = f"You have {self._per_user} streams open here, which is as many as one user may; close one."
            raise TooManyStreamsError(detail, headers={"Retry-After": "5"})
        if len(self._subscriptions) >= self._per_replica:
            raise StreamsExhaustedError("This replica has no room for another stream.", retry_after=5.0)
        subscription = Subscription(user_id, owner_id or user_id, key_id)
        if self._stopping:
            subscription.end()
        self._subscriptions.add(subscription)
        self._users[user_id] += 1
        _open_streams.inc()
        self.wake()
        try:
            yield subscription
        finally:
            _open_streams.dec()
            self._subscriptions.discard(subscription)
            self._users[user_id] -= 1
            if not self._users[user_id]:
                del self._users[user_id]

    def end_streams(self) -> None:
        """End all streams in good order, and at once those that come now: this process is about to end."""
        self._stopping = True
        for subscription in self._subscriptions:
            subscription.end()

    def key_ids(self) -> set[str]:
        """Give the public ids of the API keys that streams are open with."""
        return {subscription.key_id for subscription in self._subscriptions if subscription.key_id is not None}

    def end_streams_of(self, key_ids: Collection[str]) -> None:
        """End the streams that were opened with these API keys."""
        for subscription in self._subscriptions:
            if subscription.key_id in key_ids:
                subscription.end()

    def user_ids(self) -> set[str]:
        """Give whose streams are open."""
        return set(self._users)

    def end_streams_of_users(self, user_ids: Collection[str], why: ApiError) -> None:
        """End the streams of these users, and tell them why."""
        for subscription in self._subscriptions:
            if subscription.user_id in user_ids:
                subscription.end(why)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Look for changes in the background until the block ends."""
        return in_background("live-feed", self._run)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._subscriptions:
                self._seen = None
                _held_back.set(math.nan)  # nobody looks, so nobody knows
                self._woken.clear()
                await self._woken.wait()
                continue
            self._woken.clear()
            began, pause = loop.time(), self._poll_interval
            try:
                pause = await self._look()
            except DatabaseUnavailableError as error:
                _logger.warning("the feed cannot be read", reason=error.detail)
            except Exception:  # a defect of ours must not end it: streams would stay open and say nothing
                _logger.exception("looking for changes failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            await asyncio.sleep(max(0.0, began + _REST - loop.time()))

    async def _look(self) -> float:
        """Tell those who have something to read; gives the seconds until the next look."""
        asked = set(self._subscriptions)
        since = self._seen
        async with self._database.session() as session:
            feed = FeedRepository(session)
            owners = {subscription.owner_id for subscription in asked}
            changed, horizon, newest = await feed.changed_owners(owners, since=since)
        for subscription in self._subscriptions:
            # Who came while we were looking may have read before the changes that this look has passed by.
            if subscription.owner_id in changed or subscription not in asked:
                subscription.tell()
        self._seen = horizon
        _held_back.set(newest - horizon)
        # Something is being written and may be committed any moment, by this process or by another.
        return _REST if newest > horizon and since != horizon else self._poll_interval
