"""The secrets that API keys are hashed with. A copy of the database alone is of no use."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from chassis.settings import MIN_SECRET_BYTES

_ID: Final = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True)
class Peppers:
    """Secrets by their ids, as a hash says which of them it was made with.

    Attributes:
        current: Id of the one that new hashes are made with.
    """

    current: str
    _secrets: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, secrets: Mapping[str, str]) -> Self:
        """Take secrets by their ids, the current one first."""
        return cls(next(iter(secrets)), {name: secret.encode() for name, secret in secrets.items()})

    @staticmethod
    def read(text: str) -> dict[str, str]:
        """Read `id:secret,id:secret`, the current one first.

        Raises:
            ValueError: It cannot be read, or a secret is too short; the message holds none of them.
        """
        found: dict[str, str] = {}
        for number, part in enumerate(text.split(","), 1):
            name, separator, secret = part.strip().partition(":")
            if not separator or not _ID.fullmatch(name) or name in found:
                raise ValueError(f"needs id:secret pairs with ids of their own (a-z, 0-9, -), number {number} is none")
            if len(secret.encode()) < MIN_SECRET_BYTES:
                raise ValueError(f"needs secrets of at least {MIN_SECRET_BYTES} bytes, number {number} has less")
            found[name] = secret
        return found

    def __contains__(self, pepper_id: str) -> bool:
        return pepper_id in self._secrets

    def digest(self, key_text: str, pepper_id: str) -> bytes:
        """Give the HMAC-SHA-256 of a key under one of the peppers."""
        return hmac.digest(self._secrets[pepper_id], key_text.encode(), "sha256")
