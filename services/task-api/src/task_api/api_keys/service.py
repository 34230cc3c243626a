"""The rules of API keys: whose they are, how many there may be, how they are rotated, narrowed and revoked."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ApiError, FieldProblem, ForbiddenError, InvalidInputError, NotFoundError
from chassis.identity import Principal
from chassis.identity.api_key_text import ApiKeyText, new_key_text
from chassis.pagination import Page
from task_api.api_keys.models import ApiKey, ApiKeySecret
from task_api.api_keys.peppers import Peppers
from task_api.api_keys.repository import ApiKeyRepository
from task_api.api_keys.schemas import ApiKeyCreate, ApiKeyPatch
from task_api.tasks.cursors import ListCursors

MAX_KEYS: Final = 25
"""Keys of one user, those not counted that were revoked."""
MAX_SECRETS: Final = 5
"""Secrets of one key that work at the same time."""
_LIST: Final = "api keys"


class ApiKeyNotFoundError(NotFoundError):
    """There is no such API key."""

    code = "api_key_not_found"


class ApiKeyForbiddenError(ForbiddenError):
    """The API key is someone else's."""

    code = "api_key_forbidden"


class TooManyApiKeysError(ApiError):
    """The caller has as many API keys as one may have."""

    status, code = 409, "too_many_api_keys"

    def __init__(self) -> None:
        super().__init__(f"You have {MAX_KEYS} API keys, which is the limit; revoke one first.")


class TooManyApiKeySecretsError(ApiError):
    """As many secrets of the API key work as may at the same time."""

    status, code = 409, "too_many_api_key_secrets"

    def __init__(self) -> None:
        super().__init__(
            f"{MAX_SECRETS} secrets of this key work, which is the limit; rotate without overlap to end them."
        )


class ApiKeyEndedError(ApiError):
    """The API key was revoked or has expired."""

    status, code = 409, "api_key_ended"


class ScopesWidenedError(InvalidInputError):
    """The API key does not have all of these scopes; they can only be narrowed."""

    code = "scopes_widened"

    def __init__(self, more: list[str]) -> None:
        message = f"can only be narrowed, and the key does not have {', '.join(more)}; make another key"
        super().__init__(f"scopes {message}", errors=[FieldProblem(field="scopes", message=message)])


@dataclass(frozen=True)
class IssuedKey:
    """A key and the secret that was just made for it."""

    key: ApiKey
    text: ApiKeyText


@dataclass(frozen=True)
class ApiKeyListing:
    """Which part of a user's keys."""

    limit: int
    cursor: str | None
    total: bool


class ApiKeys:
    """What can be done with keys, by whom."""

    def __init__(self, peppers: Peppers, cursors: ListCursors) -> None:
        self._peppers, self._cursors = peppers, cursors

    async def create(self, user: Principal, session: AsyncSession, draft: ApiKeyCreate) -> IssuedKey:
        """Make a key that acts for the user.

        Raises:
            InvalidInputError: It would have expired already.
            TooManyApiKeysError: The user has as many as one may have.
        """
        keys, now, text = ApiKeyRepository(session), datetime.now(UTC), new_key_text()
        if draft.expires_at is not None and draft.expires_at <= now:
            message = "must be in the future"
            raise InvalidInputError(
                f"expires_at: {message}", errors=[FieldProblem(field="expires_at", message=message)]
            )
        await keys.hold(user.id)
        if await keys.count_kept(user.id) >= MAX_KEYS:
            raise TooManyApiKeysError
        key = ApiKey(
            owner_id=user.id,
            name=draft.name,
            scopes=draft.scopes,
            prefix=text.prefix,
            last_characters=text.last_characters,
            created_at=now,
            expires_at=draft.expires_at,
        )
        await keys.add(key)
        await keys.add_secret(self._secret(key, text, now))
        await session.commit()
        return IssuedKey(key, text)

    async def list_keys(self, user: Principal, session: AsyncSession, wanted: ApiKeyListing) -> Page[ApiKey]:
        """Give a page of the user's keys, oldest first.

        Raises:
            InvalidCursorError: The cursor is none of ours.
            CursorMismatchError: The cursor belongs to another list.
        """
        keys, after = ApiKeyRepository(session), None
        if wanted.cursor is not None:
            after = int(self._cursors.read(wanted.cursor, user_id=user.id, query=_LIST)[0])
        found = await keys.page(owner_id=user.id, after=after, limit=wanted.limit)
        total = await keys.count(owner_id=user.id) if wanted.total else None
        shown, next_cursor = found[: wanted.limit], None
        if len(found) > wanted.limit:
            next_cursor = self._cursors.write([str(shown[-1].id)], user_id=user.id, query=_LIST)
        return Page(items=shown, next_cursor=next_cursor, total=total)

    async def get(self, user: Principal, session: AsyncSession, key_id: int) -> ApiKey:
        """Give one of the user's keys.

        Raises:
            ApiKeyNotFoundError: No such key.
            ApiKeyForbiddenError: Someone else's.
        """
        keys = ApiKeyRepository(session)
        return await keys.find(key_id, owner_id=user.id) or await _refuse(keys, key_id)

    async def change(self, user: Principal, session: AsyncSession, key_id: int, patch: ApiKeyPatch) -> ApiKey:
        """Rename a key, or take scopes from it; from the next request on.

        Raises:
            ApiKeyNotFoundError: No such key.
            ApiKeyForbiddenError: Someone else's.
            ApiKeyEndedError: It was revoked or has expired.
            ScopesWidenedError: The key does not have these.
        """
        keys = ApiKeyRepository(session)
        key = _not_ended(await keys.lock(key_id, owner_id=user.id) or await _refuse(keys, key_id))
        if patch.new_scopes is not None:
            if more := sorted(set(patch.new_scopes) - set(key.scopes)):
                raise ScopesWidenedError(more)
            key.scopes = patch.new_scopes
        key.name = patch.new_name or key.name
        await keys.save()
        await session.commit()
        return key

    async def rotate(self, user: Principal, session: AsyncSession, key_id: int, overlap_seconds: int) -> IssuedKey:
        """Make another secret for a key; those before it end after the overlap, or earlier if that was said before.

        One transaction: a process that dies in it leaves the secrets as they were. One that dies after it leaves a
        secret that nobody has seen and those before it, so that the caller can do it again.

        Raises:
            ApiKeyNotFoundError: No such key.
            ApiKeyForbiddenError: Someone else's.
            ApiKeyEndedError: It was revoked or has expired.
            TooManyApiKeySecretsError: Earlier overlaps have not ended.
        """
        keys, text = ApiKeyRepository(session), new_key_text()
        key = _not_ended(await keys.lock(key_id, owner_id=user.id) or await _refuse(keys, key_id))
        now = datetime.now(UTC)  # after the wait for the lock: who comes second is second
        ends = now + timedelta(seconds=overlap_seconds)
        await keys.delete_secrets(key_id, ended_at=now if overlap_seconds else None)
        if overlap_seconds and await keys.limit_secrets(key_id, ends) >= MAX_SECRETS:
            raise TooManyApiKeySecretsError
        key.prefix, key.last_characters = text.prefix, text.last_characters
        key.rotated_at, key.overlap_ends_at = now, ends if overlap_seconds else None
        await keys.add_secret(self._secret(key, text, now))
        await session.commit()
        return IssuedKey(key, text)

    async def revoke(self, user: Principal, session: AsyncSession, key_id: int) -> None:
        """End a key for good, in all replicas with the commit; once more does nothing.

        Raises:
            ApiKeyNotFoundError: No such key.
            ApiKeyForbiddenError: Someone else's.
        """
        keys = ApiKeyRepository(session)
        key = await keys.lock(key_id, owner_id=user.id) or await _refuse(keys, key_id)
        if key.revoked_at is None:
            key.revoked_at, key.overlap_ends_at = datetime.now(UTC), None
            await keys.save()
            await keys.delete_secrets(key_id)
            await session.commit()

    def _secret(self, key: ApiKey, text: ApiKeyText, now: datetime) -> ApiKeySecret:
        assert key.id is not None  # noqa: S101  (it was inserted)
        pepper_id = self._peppers.current
        digest = self._peppers.digest(text.text, pepper_id)
        return ApiKeySecret(public_id=text.public_id, key_id=key.id, digest=digest, pepper_id=pepper_id, created_at=now)


def _not_ended(key: ApiKey) -> ApiKey:
    if key.revoked_at is not None:
        raise ApiKeyEndedError(f"API key {key.id} was revoked; make another.")
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        raise ApiKeyEndedError(f"API key {key.id} has expired; make another.")
    return key


async def _refuse(keys: ApiKeyRepository, key_id: int) -> ApiKey:
    if await keys.exists(key_id):
        raise ApiKeyForbiddenError(f"API key {key_id} belongs to someone else.")
    raise ApiKeyNotFoundError(f"There is no API key {key_id}.")
