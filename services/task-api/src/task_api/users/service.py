"""The rules of profiles: reading never writes, changes are merged, and the last one to read may refuse to overwrite."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import open_database
from chassis.errors import FieldProblem, InvalidInputError
from chassis.identity import Principal
from chassis.logging import get_logger
from task_api.encryption import Keyring
from task_api.settings import TaskApiSettings
from task_api.tasks.conditions import Preconditions
from task_api.users.profile import DEFAULT_TIME_ZONE, Profile
from task_api.users.repository import ProfileRepository
from task_api.users.schemas import ProfilePatch, check_preferences

_BATCH: Final = 200
_WAIT_FOR_OTHERS: Final = 0.2
_logger = get_logger(__name__)


class Profiles:
    """What can be done with one's own profile."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    async def get(self, user: Principal, session: AsyncSession) -> Profile:
        """Give the caller's profile; defaults when there is none."""
        return await ProfileRepository(session, self._keys).get(user.id) or Profile(user.id)

    async def time_zone(self, user: Principal, session: AsyncSession) -> str:
        """Give where the caller's clock is; the default when there is no profile."""
        return await ProfileRepository(session, self._keys).time_zone(user.id) or DEFAULT_TIME_ZONE

    async def patch(
        self, user: Principal, session: AsyncSession, patch: ProfilePatch, conditions: Preconditions
    ) -> Profile:
        """Merge changes into the caller's profile.

        Raises:
            PreconditionFailedError: It is not as the caller saw it.
            InvalidInputError: The preferences grew too large.
        """
        profiles, now = ProfileRepository(session, self._keys), datetime.now(UTC)
        stored = await profiles.get(user.id, lock=True)
        profile = stored or Profile(user.id)
        conditions.check_write(profile.etag, what="profile")
        changed = profile.merged(patch.changes())
        if changed == profile:
            return profile
        _check(changed)
        changed = replace(changed, version=profile.version + 1, updated_at=now, created_at=profile.created_at or now)
        if stored is not None:
            await profiles.update(changed, now)
        elif not await profiles.add(changed, now):
            # Somebody else's first change was committed meanwhile: it is there now, so this happens once.
            return await self.patch(user, session, patch, conditions)
        await session.commit()
        return changed


def _check(profile: Profile) -> None:
    try:
        check_preferences(profile.preferences)
    except ValueError as error:
        problem = FieldProblem(field="preferences", message=f"{error}, with what is there already")
        raise InvalidInputError(f"{problem.field}: {problem.message}", errors=[problem]) from error


def reencrypt(settings: TaskApiSettings) -> None:
    """Encrypt all that is stored with the first of the keys, batch by batch, then say so.

    It may be ended at any time, and begun again; replicas may serve meanwhile.

    Raises:
        DecryptionError: Something cannot be read; says with which key it was encrypted.
    """
    asyncio.run(_reencrypt(settings))


async def _reencrypt(settings: TaskApiSettings) -> None:
    keys, database, total = settings.keyring, open_database(settings, application_name="reencrypt"), 0
    try:
        while True:
            async with database.session() as session:
                profiles = ProfileRepository(session, keys)
                done = await profiles.reencrypt_some(_BATCH)
                await session.commit()
                left = 0 if done else await profiles.under_other_keys()
            total += done
            if not done and not left:
                break
            if not done:  # others hold them
                await asyncio.sleep(_WAIT_FOR_OTHERS)
    finally:
        await database.close()
    _logger.info("all is encrypted with the first key", key_id=keys.current, rewritten=total)
