"""All SQL about profiles, and what is encrypted on the way in and out."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.encryption import Keyring
from task_api.users.models import StoredProfile
from task_api.users.profile import Profile

_TABLE: Final = "profiles"
_UNDER_OTHER_KEYS: Final = text("SELECT count(*) FROM profiles WHERE key_id <> :key_id")


@dataclass(frozen=True)
class ProfileRepository:
    """Profiles in one session's transaction."""

    session: AsyncSession
    keys: Keyring

    async def get(self, user_id: str, *, lock: bool = False) -> Profile | None:
        """Give a user's profile; None when there is none.

        Raises:
            DecryptionError: What is stored cannot be read.
        """
        statement = select(StoredProfile).where(col(StoredProfile.user_id) == user_id)
        if lock:
            statement = statement.with_for_update()
        row = (await self.session.exec(statement)).one_or_none()
        return None if row is None else self._opened(row)

    async def time_zone(self, user_id: str) -> str | None:
        """Give a user's time zone, which is not encrypted; None when there is no profile."""
        statement = select(StoredProfile.time_zone).where(col(StoredProfile.user_id) == user_id)
        return (await self.session.exec(statement)).one_or_none()

    async def add(self, profile: Profile, now: datetime) -> bool:
        """Store a user's first profile; False when somebody was faster."""
        values = self._sealed(profile) | {"user_id": profile.id, "created_at": now, "updated_at": now}
        statement = (
            insert(StoredProfile).values(**values).on_conflict_do_nothing().returning(col(StoredProfile.user_id))
        )
        connection = await self.session.connection()
        return (await connection.execute(statement)).one_or_none() is not None

    async def update(self, profile: Profile, now: datetime) -> None:
        """Store a profile that the transaction holds."""
        row = await self.session.get_one(StoredProfile, profile.id)
        row.sqlmodel_update(self._sealed(profile) | {"updated_at": now})
        await self.session.flush()

    async def under_other_keys(self) -> int:
        """Count profiles that are not encrypted with the current key."""
        connection = await self.session.connection()
        return int((await connection.execute(_UNDER_OTHER_KEYS, {"key_id": self.keys.current})).scalar_one())

    async def reencrypt_some(self, limit: int) -> int:
        """Encrypt some profiles with the current key that others hold; gives how many.

        Raises:
            DecryptionError: One cannot be read.
        """
        current = self.keys.current
        statement = select(StoredProfile).where(col(StoredProfile.key_id) != current)
        statement = statement.order_by(col(StoredProfile.user_id)).limit(limit).with_for_update(skip_locked=True)
        rows = (await self.session.exec(statement)).all()
        for row in rows:
            sealed = self._sealed(self._opened(row))
            row.sqlmodel_update({name: sealed[name] for name in ("name", "email", "key_id")})
        await self.session.flush()
        return len(rows)

    def _opened(self, row: StoredProfile) -> Profile:
        return Profile(
            id=row.user_id,
            name=self._decrypted(row.name, "name", row.user_id),
            email=self._decrypted(row.email, "email", row.user_id),
            time_zone=row.time_zone,
            locale=row.locale,
            preferences=row.preferences,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    def _sealed(self, profile: Profile) -> dict[str, object]:
        return {
            "name": self._encrypted(profile.name, "name", profile.id),
            "email": self._encrypted(profile.email, "email", profile.id),
            "time_zone": profile.time_zone,
            "locale": profile.locale,
            "preferences": profile.preferences,
            "key_id": self.keys.current,
            "version": profile.version,
        }

    def _encrypted(self, value: str | None, column: str, user_id: str) -> bytes | None:
        return None if value is None else self.keys.encrypt(value, _TABLE, column, user_id)

    def _decrypted(self, value: bytes | None, column: str, user_id: str) -> str | None:
        return None if value is None else self.keys.decrypt(value, _TABLE, column, user_id)
