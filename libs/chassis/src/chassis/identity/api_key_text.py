"""How an API key looks: `tw_<public id>_<secret><checksum>`, all of it letters and digits.

The public id names the key in the database, in lists and in logs. The checksum is part of the text, as in the tokens of
GitHub: whoever finds or types a key can tell whether it is one without asking anybody.
"""

import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "tw_"
"""Begins every key, and no JWT."""
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_CHARS: Final = 12
_SECRET_CHARS: Final = 43
"""62^43 is more than 2^256."""
_CHECKSUM_CHARS: Final = 6
_SHOWN_CHARS: Final = 4
_KEY: Final = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{_ID_CHARS}}})_[0-9A-Za-z]{{{_SECRET_CHARS}}}([0-9A-Za-z]{{{_CHECKSUM_CHARS}}})"
)


@dataclass(frozen=True)
class ApiKeyText:
    """A text that is a key by its looks, which says nothing of whether it opens anything.

    Attributes:
        text: The whole of it; for its owner's eyes only.
        public_id: The part that is no secret.
    """

    text: str = field(repr=False)
    public_id: str

    @property
    def prefix(self) -> str:
        """How it begins, for its owner to tell one from another."""
        return PREFIX + self.public_id

    @property
    def last_characters(self) -> str:
        """How it ends: of the checksum, so that 232 of 256 bits stay unknown."""
        return self.text[-_SHOWN_CHARS:]


def new_key_text() -> ApiKeyText:
    """Make a key of 256 random bits."""
    public_id, secret = _random(_ID_CHARS), _random(_SECRET_CHARS)
    begin = f"{PREFIX}{public_id}_{secret}"
    return ApiKeyText(begin + _checksum(begin), public_id)


def read_key_text(text: str) -> ApiKeyText | None:
    """Take a text apart; None when it was never a key, or was mistyped."""
    found = _KEY.fullmatch(text)
    if found is None or _checksum(text[:-_CHECKSUM_CHARS]) != found[2]:
        return None
    return ApiKeyText(text, found[1])


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
