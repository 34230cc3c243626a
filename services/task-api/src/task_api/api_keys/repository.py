"""All SQL about API keys. What reads or locks for a caller starts from the owner; what verifies, from the public id."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import DateTime, bindparam, delete, func, or_, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.api_keys.models import ApiKey, ApiKeySecret

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('api keys of ' || :owner_id, 0))")
# Rows that are being changed are left for the next time, and taken in one order: no request ever waits long for this.
_NOTE_USES: Final = text(
    """
    WITH used AS (SELECT unnest(:ids ::bigint[]) AS id, unnest(:times) AS at), free AS (
        SELECT api_keys.id, used.at FROM api_keys JOIN used USING (id)
        WHERE last_used_at IS NULL OR last_used_at < used.at
        ORDER BY api_keys.id FOR NO KEY UPDATE OF api_keys SKIP LOCKED
    )
    UPDATE api_keys SET last_used_at = free.at FROM free WHERE api_keys.id = free.id
    """
).bindparams(bindparam("times", type_=ARRAY(DateTime(timezone=True))))


@dataclass(frozen=True)
class FoundSecret:
    """All that verifying a secret asks for."""

    public_id: str
    digest: bytes
    pepper_id: str
    valid_until: datetime | None
    key_id: int
    owner_id: str
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None

    @property
    def ends_at(self) -> datetime | None:
        """When the secret or its key ends, whichever comes first; None: never."""
        return min(filter(None, (self.valid_until, self.expires_at)), default=None)


class ApiKeyRepository:
    """API keys in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def hold(self, owner_id: str) -> None:
        """Let no other transaction count or add keys of this owner until this one ends."""
        await (await self._session.connection()).execute(_LOCK, {"owner_id": owner_id})

    async def count_kept(self, owner_id: str) -> int:
        """Count an owner's keys that are not revoked."""
        mine = (col(ApiKey.owner_id) == owner_id, col(ApiKey.revoked_at).is_(None))
        return (await self._session.exec(select(func.count()).select_from(ApiKey).where(*mine))).one()

    async def add(self, key: ApiKey) -> None:
        """Insert a key; it has its id afterwards."""
        self._session.add(key)
        await self._session.flush()

    async def add_secret(self, secret: ApiKeySecret) -> None:
        """Insert a secret of a key, and write what was changed of the key."""
        self._session.add(secret)
        await self._session.flush()

    async def save(self) -> None:
        """Write what was changed of a key."""
        await self._session.flush()

    async def find(self, key_id: int, *, owner_id: str) -> ApiKey | None:
        """Give an owner's own key."""
        statement = select(ApiKey).where(col(ApiKey.id) == key_id, col(ApiKey.owner_id) == owner_id)
        return (await self._session.exec(statement)).first()

    async def lock(self, key_id: int, *, owner_id: str) -> ApiKey | None:
        """Give an owner's own key, and hold its row until the transaction ends."""
        statement = select(ApiKey).where(col(ApiKey.id) == key_id, col(ApiKey.owner_id) == owner_id)
        return (await self._session.exec(statement.with_for_update())).first()

    async def exists(self, key_id: int) -> bool:
        """Tell whether there is such a key, whoever owns it."""
        return (await self._session.exec(select(ApiKey.id).where(col(ApiKey.id) == key_id))).first() is not None

    async def page(self, *, owner_id: str, after: int | None, limit: int) -> list[ApiKey]:
        """Give a page of an owner's keys, oldest first, and one more."""
        statement = select(ApiKey).where(col(ApiKey.owner_id) == owner_id)
        if after is not None:
            statement = statement.where(col(ApiKey.id) > after)
        return list((await self._session.exec(statement.order_by(col(ApiKey.id)).limit(limit + 1))).all())

    async def count(self, *, owner_id: str) -> int:
        """Count an owner's keys, those that were revoked too."""
        statement = select(func.count()).select_from(ApiKey).where(col(ApiKey.owner_id) == owner_id)
        return (await self._session.exec(statement)).one()

    async def limit_secrets(self, key_id: int, until: datetime) -> int:
        """Let the secrets of a key end then, or earlier where that was said before; gives how many there are."""
        ends = func.least(col(ApiKeySecret.valid_until), until)  # of NULL and a time, the time
        statement = update(ApiKeySecret).where(col(ApiKeySecret.key_id) == key_id).values(valid_until=ends)
        return (await (await self._session.connection()).execute(statement)).rowcount

    async def delete_secrets(self, key_id: int, *, ended_at: datetime | None = None) -> None:
        """Delete the secrets of a key, all or only those that have ended."""
        statement = delete(ApiKeySecret).where(col(ApiKeySecret.key_id) == key_id)
        if ended_at is not None:
            statement = statement.where(col(ApiKeySecret.valid_until) <= ended_at)
        await (await self._session.connection()).execute(statement)

    async def find_secret(self, public_id: str) -> FoundSecret | None:
        """Give a secret and what it opens, in one statement."""
        statement = (
            select(
                ApiKeySecret.public_id,
                ApiKeySecret.digest,
                ApiKeySecret.pepper_id,
                ApiKeySecret.valid_until,
                ApiKey.id,
                ApiKey.owner_id,
                ApiKey.scopes,
                ApiKey.expires_at,
                ApiKey.last_used_at,
            )  # type: ignore[call-overload]  # sqlmodel knows four columns at most
            .join(ApiKey, col(ApiKey.id) == col(ApiKeySecret.key_id))
            .where(col(ApiKeySecret.public_id) == public_id, col(ApiKey.revoked_at).is_(None))
        )
        row = (await self._session.exec(statement)).first()
        return None if row is None else FoundSecret(*row)

    async def those_that_open(self, public_ids: Collection[str], now: datetime) -> set[str]:
        """Give which of these secrets still open something."""
        ends = (or_(col(end).is_(None), col(end) > now) for end in (ApiKeySecret.valid_until, ApiKey.expires_at))
        statement = (
            select(ApiKeySecret.public_id)
            .join(ApiKey, col(ApiKey.id) == col(ApiKeySecret.key_id))
            .where(col(ApiKeySecret.public_id).in_(public_ids), col(ApiKey.revoked_at).is_(None), *ends)
        )
        return set((await self._session.exec(statement)).all())

    async def note_uses(self, uses: Sequence[tuple[int, datetime]]) -> None:
        """Write when keys were used; one that is being changed right now is left out."""
        parameters = {"ids": [key_id for key_id, _ in uses], "times": [at for _, at in uses]}
        await (await self._session.connection()).execute(_NOTE_USES, parameters)

    async def replace_digest(self, public_id: str, digest: bytes, pepper_id: str) -> None:
        """Keep another hash of the same secret."""
        statement = update(ApiKeySecret).where(col(ApiKeySecret.public_id) == public_id)
        await (await self._session.connection()).execute(statement.values(digest=digest, pepper_id=pepper_id))

    async def purge(self, *, revoked_before: datetime, ended_before: datetime, limit: int) -> int:
        """Delete keys that were revoked before a time, and secrets that ended; gives how many rows there were."""
        connection, gone = await self._session.connection(), 0
        for model, column, name, before in (
            (ApiKey, col(ApiKey.revoked_at), col(ApiKey.id), revoked_before),
            (ApiKeySecret, col(ApiKeySecret.valid_until), col(ApiKeySecret.public_id), ended_before),
        ):
            batch = select(name).where(column < before).limit(limit).with_for_update(skip_locked=True)
            gone += (await connection.execute(delete(model).where(name.in_(batch)))).rowcount
        return gone
