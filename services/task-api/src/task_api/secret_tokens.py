"""Secrets that open something by themselves: random, shown once, kept as their hash."""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

# How every token of a kind begins: whoever finds one knows what it opens, and logs and traces leave out `tw…_…`.
INVITATION_PREFIX: Final = "twinv_"
FEED_PREFIX: Final = "twcal_"
_RANDOM_BYTES: Final = 32
_SHOWN_CHARS: Final = 6


@dataclass(frozen=True)
class SecretToken:
    """A new token.

    Attributes:
        secret: The whole of it; for whom it is made, and nobody else.
        hint: How it begins, to tell one from another; 220 of 256 bits stay unknown.
        digest: What is kept of it. A plain hash does: so many random bits cannot be guessed from it.
    """

    secret: str = field(repr=False)
    hint: str
    digest: bytes


def new_token(prefix: str) -> SecretToken:
    """Make a token of 256 random bits that begins so."""
    secret = prefix + secrets.token_urlsafe(_RANDOM_BYTES)
    return SecretToken(secret, secret[: len(prefix) + _SHOWN_CHARS], digest_of(secret))


def digest_of(secret: str) -> bytes:
    """Give what is kept of a token, or would be kept of any other text."""
    return hashlib.sha256(secret.encode()).digest()
