"""What is done about keys in the background: forget what has ended, and end the streams of keys that were revoked."""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from chassis.database import Database
from chassis.periodic import repeating
from task_api.api_keys.repository import ApiKeyRepository

KEPT_AFTER_REVOCATION: Final = timedelta(days=30)
_PURGE_INTERVAL: Final = 3600.0
_PURGE_BATCH: Final = 1000
WATCH_INTERVAL: Final = 2.0
"""Seconds after which a stream of a revoked key ends at the latest, as long as the database answers."""


class OpenStreams(Protocol):
    """Streams that were opened with keys."""

    def key_ids(self) -> set[str]:
        """Give the public ids of the keys that streams are open with."""
        ...

    def end_streams_of(self, key_ids: Collection[str]) -> None:
        """End the streams that were opened with these keys."""
        ...


async def purge(database: Database, now: datetime) -> None:
    """Delete keys 30 days after they were revoked, and secrets once they have ended; in small transactions."""
    gone = _PURGE_BATCH
    while gone >= _PURGE_BATCH:
        async with database.session() as session:
            keys = ApiKeyRepository(session)
            before = now - KEPT_AFTER_REVOCATION
            gone = await keys.purge(revoked_before=before, ended_before=now, limit=_PURGE_BATCH)
            await session.commit()


async def end_revoked(database: Database, streams: OpenStreams) -> None:
    """End the streams whose keys open nothing any more: one statement for all of them, none without such streams."""
    open_now = streams.key_ids()
    if not open_now:
        return
    async with database.session() as session:
        alive = await ApiKeyRepository(session).those_that_open(open_now, datetime.now(UTC))
    if dead := open_now - alive:
        streams.end_streams_of(dead)


def forgetting_keys(database: Database) -> AbstractAsyncContextManager[None]:
    """Purge in the background; every replica may, none waits for another."""
    return repeating("forget-api-keys", _PURGE_INTERVAL, lambda: purge(database, datetime.now(UTC)))


def ending_streams(database: Database, streams: OpenStreams) -> AbstractAsyncContextManager[None]:
    """Look after the streams of this replica in the background."""
    return repeating("end-streams-of-api-keys", WATCH_INTERVAL, lambda: end_revoked(database, streams))
