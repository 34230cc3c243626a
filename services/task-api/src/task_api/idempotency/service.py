"""The rules of `Idempotency-Key`: one request, one change, one answer.

The key is written by the transaction of the change it stands for. A process may die between any two lines: before the
commit nothing has happened and the key is free; after it the change is there and so is its answer.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import Database
from chassis.errors import ApiError
from chassis.periodic import repeating
from task_api.idempotency.models import IdempotencyKey
from task_api.idempotency.repository import IdempotencyRepository

_PURGE_BATCH: Final = 1000
_PURGE_INTERVAL: Final = 300.0


class RequestInProgressError(ApiError):
    """A request with this idempotency key is still being processed."""

    status, code = 409, "idempotency_key_in_use"

    def __init__(self) -> None:
        detail = "A request with this Idempotency-Key is still being processed; send it again in a moment."
        super().__init__(detail, headers={"Retry-After": "1"})


class KeyReusedError(ApiError):
    """The idempotency key was used for another request, or the content is not acceptable."""

    status, code = 422, "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request (method, path, query, If-Match or body differ); "
            "take a new key for a new request."
        )


@dataclass(frozen=True)
class Answer:
    """What was answered, to the byte."""

    status: int
    headers: dict[str, str]
    body: bytes


class Claim:
    """The right to answer one request: held by this transaction alone, until it ends."""

    def __init__(self, session: AsyncSession, owner_id: str, key: str, fingerprint: bytes, lifetime: int) -> None:
        self._session = session
        self._owner_id, self._key, self._fingerprint = owner_id, key, fingerprint
        self._lifetime = lifetime

    async def keep(self, answer: Answer) -> None:
        """Add the answer to the transaction of its change, before the commit.

        Raises:
            RequestInProgressError: The key was answered meanwhile; nothing must be committed.
        """
        kept = IdempotencyKey(
            owner_id=self._owner_id,
            key=self._key,
            fingerprint=self._fingerprint,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
        )
        if not await IdempotencyRepository(self._session).keep(kept, lifetime=self._lifetime):
            raise RequestInProgressError


class Idempotency:
    """Claims keys, and forgets them when they have expired."""

    def __init__(self, *, lifetime: int) -> None:
        """Say for how many seconds an answer is kept."""
        self._lifetime = lifetime

    async def claim(self, session: AsyncSession, owner_id: str, key: str, fingerprint: bytes) -> Claim | Answer:
        """Take a caller's key for this transaction, or give the answer it was given before.

        Raises:
            RequestInProgressError: Another transaction holds the key.
            KeyReusedError: The key was used for another request.
        """
        keys = IdempotencyRepository(session)
        if not await keys.take(owner_id, key):
            raise RequestInProgressError
        kept = await keys.find(owner_id, key)
        if kept is None:
            return Claim(session, owner_id, key, fingerprint, self._lifetime)
        if kept.fingerprint != fingerprint:
            raise KeyReusedError
        return Answer(kept.status, kept.headers, kept.body)

    async def purge(self, database: Database) -> int:
        """Delete the keys that have expired, in small transactions; gives how many there were."""
        purged = 0
        while True:
            async with database.session() as session:
                batch = await IdempotencyRepository(session).purge(_PURGE_BATCH)
                await session.commit()
            purged += batch
            if batch < _PURGE_BATCH:
                return purged


def forgetting_expired_keys(idempotency: Idempotency, database: Database) -> AbstractAsyncContextManager[None]:
    """Purge expired keys in the background; every replica may, none waits for another."""
    return repeating("forget-idempotency-keys", _PURGE_INTERVAL, lambda: idempotency.purge(database))
