"""Seals what this service hands out and wants back as it was: cursors of every kind.

A seal is an HMAC in the text itself, made with a key for one purpose. Callers cannot make or alter such a text, so what
is in it needs no further checks; nothing in it is secret.
"""

import base64
import binascii
import hmac
from typing import Final

_MAC_BYTES: Final = 16


class BrokenSealError(ValueError):
    """The text was not made with this seal, or was altered."""


class Seal:
    """Makes and opens sealed texts for one purpose with one secret, the same in every replica."""

    def __init__(self, secret: bytes, purpose: bytes) -> None:
        # Derived: no text sealed for another purpose is ever taken for one of this, and none reveals the secret.
        self._key = hmac.digest(secret, purpose, "sha256")

    def close(self, content: bytes, *, bound_to: bytes = b"") -> str:
        """Give the content and its seal as text that needs no escape in a URL: base64url without padding.

        Args:
            content: What to seal; always of the same length where it is bound to something.
            bound_to: What is not in the text and must be the same when it is opened, such as a user's id.
        """
        return _text(content + self._mac(content + bound_to))

    def open(self, text: str, *, bound_to: bytes = b"") -> bytes:
        """Give the content of a sealed text.

        Raises:
            BrokenSealError: It is none of ours, or bound to something else.
        """
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise BrokenSealError from error
        content, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
        # Base64 has more than one spelling of the same bytes; only the one that was given out counts.
        if _text(sealed) != text or not hmac.compare_digest(mac, self._mac(content + bound_to)):
            raise BrokenSealError
        return content

    def _mac(self, sealed: bytes) -> bytes:
        return hmac.digest(self._key, sealed, "sha256")[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
