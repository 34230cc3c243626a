"""All SQL about idempotency keys."""

import hashlib
from typing import Final

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.idempotency.models import IdempotencyKey

_TAKE: Final = text("SELECT pg_try_advisory_xact_lock(:lock)")
# A row that is there is overwritten only when it has expired and the purge has not come to it yet.
_KEEP: Final = text(
    """
    INSERT INTO idempotency_keys AS kept (owner_id, key, fingerprint, status, headers, body, expires_at)
    VALUES (:owner_id, :key, :fingerprint, :status, :headers, :body, now() + make_interval(secs => :lifetime))
    ON CONFLICT (owner_id, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers,
        body = excluded.body, created_at = excluded.created_at, expires_at = excluded.expires_at
    WHERE kept.expires_at <= now()
    RETURNING key
    """
).bindparams(bindparam("headers", type_=JSONB))
_PURGE: Final = text(
    """
    DELETE FROM idempotency_keys WHERE (owner_id, key) IN (
        SELECT owner_id, key FROM idempotency_keys WHERE expires_at <= now()
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    """
)


class IdempotencyRepository:
    """Idempotency keys in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def take(self, owner_id: str, key: str) -> bool:
        """Hold a key until this transaction ends, however it ends; False while another transaction does."""
        connection = await self._session.connection()
        return bool(await connection.scalar(_TAKE, {"lock": _lock_of(owner_id, key)}))

    async def find(self, owner_id: str, key: str) -> IdempotencyKey | None:
        """Give what was kept under a key that has not expired.

        Only after `take`, and as a statement of its own: it then sees what the last holder committed.
        """
        statement = select(IdempotencyKey).where(
            col(IdempotencyKey.owner_id) == owner_id,
            col(IdempotencyKey.key) == key,
            col(IdempotencyKey.expires_at) > func.now(),
        )
        return (await self._session.exec(statement)).first()

    async def keep(self, kept: IdempotencyKey, *, lifetime: int) -> bool:
        """Write an answer that is valid for `lifetime` seconds; False when the key has a valid one already."""
        row = kept.model_dump(exclude={"created_at", "expires_at"}) | {"lifetime": lifetime}
        connection = await self._session.connection()
        return (await connection.execute(_KEEP, row)).first() is not None

    async def purge(self, limit: int) -> int:
        """Delete so many expired keys at most; leaves those that another replica is deleting."""
        connection = await self._session.connection()
        return (await connection.execute(_PURGE, {"limit": limit})).rowcount


def _lock_of(owner_id: str, key: str) -> int:
    """Give the number of a key's advisory lock; two keys with one number would at worst wait for each other."""
    digest = hashlib.sha256(f"{owner_id}\x00{key}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
