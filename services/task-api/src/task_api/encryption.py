"""Encryption of single columns, with keys that have ids and can be changed.

AES-256-GCM, a random nonce for each value. A ciphertext is bound to its place (table, column, row): put elsewhere it
does not open. The first key encrypts, all decrypt; `reencrypt` rewrites what others than the first encrypted, after
which those can go. Knows nothing of this service, so that it can move to the chassis when a second one needs it.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
MAX_KEY_ID_CHARS: Final = 32
_KEY_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_KEY_ID_CHARS}}}")
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_LEAST_DIFFERENT_BYTES: Final = 16
"""A random key of 32 bytes has fewer different ones with a chance of about 10^-15."""


class InvalidKeysError(ValueError):
    """What was given are no keys; the message names the key by its id or place, and never its value."""


class DecryptionError(Exception):
    """A value cannot be decrypted; the message names its place and the key's id."""


class UnknownKeyError(DecryptionError):
    """It was encrypted with a key that is not among those we have."""


class Keyring:
    """Some keys, of which the first is the current one."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Take keys, newest first.

        Raises:
            InvalidKeysError: There is none, or one is too weak.
        """
        if not keys:
            raise InvalidKeysError("there is no key")
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise InvalidKeysError(f"a key id has 1 to {MAX_KEY_ID_CHARS} letters, digits, dots, dashes")
            if len(key) != KEY_BYTES:
                raise InvalidKeysError(f"the key {key_id!r} has {len(key)} bytes and not {KEY_BYTES}")
            if len(set(key)) < _LEAST_DIFFERENT_BYTES:
                raise InvalidKeysError(f"the key {key_id!r} is not random")
        self.current = next(iter(keys))
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Read `id:base64,id:base64`, newest first.

        Raises:
            InvalidKeysError: It is not that; says of which key, by its id or place.
        """
        keys: dict[str, bytes] = {}
        for place, item in enumerate(text.split(","), 1):
            key_id, colon, encoded = item.strip().partition(":")
            if not colon or not _KEY_ID.fullmatch(key_id):
                raise InvalidKeysError(f"number {place} is not of the form id:base64")
            if key_id in keys:
                raise InvalidKeysError(f"the key id {key_id!r} is there twice")
            try:
                keys[key_id] = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                raise InvalidKeysError(f"the key {key_id!r} is not base64") from None
        return cls(keys)

    def encrypt(self, value: str, *place: str) -> bytes:
        """Encrypt a text for a place (table, column, row) with the current key."""
        nonce, key_id = os.urandom(_NONCE_BYTES), self.current.encode()
        head = _VERSION + len(key_id).to_bytes(1) + key_id
        return head + nonce + self._ciphers[self.current].encrypt(nonce, value.encode(), _bound(head, place))

    def decrypt(self, ciphertext: bytes, *place: str) -> str:
        """Give the text that was encrypted for this place.

        Raises:
            UnknownKeyError: With a key that is not here.
            DecryptionError: It was altered, or is of another place, or the key of that id was another one.
        """
        where = ".".join(place[:2])
        if ciphertext[:1] != _VERSION or len(ciphertext) < 2:  # noqa: PLR2004 (version and length)
            raise DecryptionError(f"{where} holds no ciphertext of ours")
        end = 2 + ciphertext[1]
        head, key_id = ciphertext[:end], ciphertext[2:end].decode(errors="replace")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKeyError(f"{where} is encrypted with the key {key_id!r}, which is not in the settings")
        nonce, sealed = ciphertext[end : end + _NONCE_BYTES], ciphertext[end + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, sealed, _bound(head, place)).decode()
        except (InvalidTag, ValueError):
            why = "the key is not the one of that name, or the value was altered or moved"
            raise DecryptionError(f"{where} cannot be decrypted with the key {key_id!r}: {why}") from None


def _bound(head: bytes, place: tuple[str, ...]) -> bytes:
    return head + json.dumps(place).encode()
