"""The secret of an invitation: random, shown once, kept as its hash."""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "twinv_"
"""Begins every token: whoever finds one knows what it opens."""
_RANDOM_BYTES: Final = 32
_SHOWN_CHARS: Final = 6


@dataclass(frozen=True)
class InvitationToken:
    """A new token.

    Attributes:
        secret: The whole of it; for whom it is handed to.
        hint: How it begins, to tell one from another; 220 of 256 bits stay unknown.
        digest: What is kept of it. A plain hash does: so many random bits cannot be guessed from it.
    """

    secret: str = field(repr=False)
    hint: str
    digest: bytes


def new_token() -> InvitationToken:
    """Make a token of 256 random bits."""
    secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    return InvitationToken(secret, secret[: len(PREFIX) + _SHOWN_CHARS], digest_of(secret))


def digest_of(secret: str) -> bytes:
    """Give what is kept of a token, or would be kept of any other text."""
    return hashlib.sha256(secret.encode()).digest()
