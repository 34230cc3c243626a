"""Notes that keys were used: in memory while requests are served, in the database a few seconds later."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chassis.database import Database
from chassis.periodic import repeating
from task_api.api_keys.repository import ApiKeyRepository, FoundSecret

NOTED_EVERY: Final = timedelta(minutes=1)
"""How exact `last_used_at` is."""
_WRITE_INTERVAL: Final = 5.0
_MAX_PENDING: Final = 10_000


@dataclass(frozen=True)
class FreshDigest:
    """A hash of a secret with the current pepper, to keep instead of one with an older one."""

    public_id: str
    digest: bytes
    pepper_id: str


class KeyUses:
    """What is to be written about keys that were used at this replica."""

    def __init__(self) -> None:
        self._at: dict[int, datetime] = {}
        self._digests: dict[str, FreshDigest] = {}

    def note(self, secret: FoundSecret, now: datetime, fresh: FreshDigest | None) -> None:
        """Take note of a use; never fails and never waits."""
        noted = secret.last_used_at
        if (noted is None or now - noted >= NOTED_EVERY) and len(self._at) < _MAX_PENDING:
            self._at.setdefault(secret.key_id, now)
        if fresh is not None and len(self._digests) < _MAX_PENDING:
            self._digests[fresh.public_id] = fresh

    async def write(self, database: Database) -> None:
        """Write what was noted; all of it stays when the database is away."""
        if not self._at and not self._digests:
            return
        # In one order at every replica: two that write the same rows would wait for each other otherwise.
        uses, digests = list(self._at.items()), sorted(self._digests.values(), key=lambda fresh: fresh.public_id)
        async with database.session() as session:
            keys = ApiKeyRepository(session)
            if uses:
                await keys.note_uses(uses)
            for fresh in digests:
                await keys.replace_digest(fresh.public_id, fresh.digest, fresh.pepper_id)
            await session.commit()
        self._forget(uses, digests)

    def _forget(self, uses: Sequence[tuple[int, datetime]], digests: Sequence[FreshDigest]) -> None:
        for key_id, _ in uses:
            del self._at[key_id]
        for fresh in digests:
            del self._digests[fresh.public_id]

    def writing(self, database: Database) -> AbstractAsyncContextManager[None]:
        """Write in the background until the block ends."""
        return repeating("note-uses-of-api-keys", _WRITE_INTERVAL, lambda: self.write(database))
