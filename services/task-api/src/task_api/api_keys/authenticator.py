"""Takes API keys as credentials: `Authorization: Bearer tw_…`."""

import hmac
from datetime import UTC, datetime
from typing import Final

import structlog
from fastapi import Request

from chassis.database import Database
from chassis.identity import Principal
from chassis.identity.api_key_text import PREFIX, ApiKeyText, read_key_text
from chassis.identity.guards import InvalidCredentialError
from chassis.identity.permissions import IN_A_KEY
from chassis.logging import get_logger
from task_api.api_keys.peppers import Peppers
from task_api.api_keys.repository import ApiKeyRepository, FoundSecret
from task_api.api_keys.uses import FreshDigest, KeyUses

_NO_DIGEST: Final = bytes(32)
_logger = get_logger(__name__)


class InvalidApiKeyError(InvalidCredentialError):
    """The key does not hold; the message is safe to show."""


class ApiKeyAuthenticator:
    """Turns a key into a `Principal`: its owner, who may do what its scopes name, and has no roles."""

    def __init__(self, database: Database, peppers: Peppers, uses: KeyUses) -> None:
        """Say what keys are verified with.

        Args:
            database: Holds them. Asked each time: a key that was revoked is refused at once, by every replica.
            peppers: What they are hashed with.
            uses: Takes note of each.
        """
        self._database, self._peppers, self._uses = database, peppers, uses

    def recognizes(self, scheme: str, credential: str) -> bool:
        """Tell a key from a JWT, by how it begins."""
        return scheme == "bearer" and credential.startswith(PREFIX)

    async def authenticate(self, request: Request, credential: str) -> Principal:  # noqa: ARG002 (the port's shape)
        """Verify the key, and name it in the log lines of the request.

        Raises:
            InvalidApiKeyError: It does not hold.
            DatabaseUnavailableError: Nobody knows right now.
        """
        principal = await self.verify(credential)
        structlog.contextvars.bind_contextvars(api_key=principal.key_id)
        return principal

    async def verify(self, text: str) -> Principal:
        """Verify a key. One that was mistyped costs nothing; whatever else, one statement, one hash, one comparison.

        Raises:
            InvalidApiKeyError: It does not hold; does not say whether it ever did.
            DatabaseUnavailableError: Nobody knows right now.
        """
        key = read_key_text(text)
        if key is None:
            raise InvalidApiKeyError("This is not an API key: a character is wrong, missing or too many.")
        async with self._database.session(transaction=False) as session:
            found = await ApiKeyRepository(session).find_secret(key.public_id)
        if not self._is_the_one(key, found) or found is None:
            raise InvalidApiKeyError("The API key is not valid.")
        now, ends = datetime.now(UTC), found.ends_at
        if ends is not None and ends <= now:
            raise InvalidApiKeyError("The API key has expired.")
        self._uses.note(found, now, self._fresh_digest(key, found))
        scopes = frozenset(permission for permission in IN_A_KEY if permission in found.scopes)
        expires_at = None if ends is None else ends.timestamp()
        return Principal(found.owner_id, scopes=scopes, expires_at=expires_at, key_id=key.public_id)

    def _is_the_one(self, key: ApiKeyText, found: FoundSecret | None) -> bool:
        """Compare in constant time; without a secret to compare with, the same work for nothing."""
        pepper_id, kept = self._peppers.current, _NO_DIGEST
        if found is not None and found.pepper_id in self._peppers:
            pepper_id, kept = found.pepper_id, found.digest
        elif found is not None:
            _logger.warning("an API key needs a pepper that is not set", api_key=key.public_id, pepper=found.pepper_id)
        return hmac.compare_digest(self._peppers.digest(key.text, pepper_id), kept)

    def _fresh_digest(self, key: ApiKeyText, found: FoundSecret) -> FreshDigest | None:
        """Hash a key anew whose pepper is on its way out, as only now it is there to be hashed."""
        current = self._peppers.current
        if found.pepper_id == current:
            return None
        return FreshDigest(key.public_id, self._peppers.digest(key.text, current), current)
