"""Secrets: which values are too weak to be one, and how they stay out of what a service writes.

Nothing sensitive is logged on purpose. What is here is the second line of defence, for the day somebody does.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import AnyUrl, PostgresDsn, RedisDsn, SecretBytes, SecretStr
from structlog.typing import EventDict, ProcessorReturnValue, WrappedLogger

REDACTED: Final = "[redacted]"
_MIN_CHARACTERS: Final = 16
_MIN_DIFFERENT: Final = 8
"""Characters of their own that a secret has at least: one made at random has more."""
_SHORTEST_MASKED: Final = 8
"""A shorter value is not masked: it would be found in words that are no secret."""
_GUESSED_FIRST: Final = (
    "changeme", "change-me", "change_me", "changeit", "password", "passwort", "secret", "example", "placeholder",
    "default", "insecure", "letmein", "qwerty", "12345678", "01234567", "abcdefgh", "taskwire", "todo", "xxxx",
)  # fmt: skip
# Of whatever credential there is, known to this process or not: what comes after "Bearer", a JWT, a token of ours,
# and the password in an address. None of them reaches across the end of a JSON string.
_LOOKS_SECRET: Final = (
    r"(?i:\b(?:bearer|basic)[ +]+)[A-Za-z0-9._~+/=-]{8,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    r"\btw[a-z]*_[A-Za-z0-9_-]{16,}",
    r"(?<=://)[^\s\"\\/@:]*:[^\s\"\\/@]+(?=@)",
)


class Redaction:
    """Masks secrets in text: those it is told of, and what looks like a credential."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Learn secrets.

        Args:
            secrets: As they are; how they stand in JSON and in an address is found out here.
        """
        known = {form for secret in secrets if len(secret) >= _SHORTEST_MASKED for form in _forms(secret)}
        # The longest first, so that nothing is left of one that another one begins with.
        wanted = [re.escape(form) for form in sorted(known, key=len, reverse=True)]
        self._pattern = re.compile("|".join([*wanted, *_LOOKS_SECRET]))

    def mask(self, text: str) -> str:
        """Give the text with every secret in it masked."""
        return self._pattern.sub(REDACTED, text)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict | str) -> ProcessorReturnValue:
        """Mask a rendered log line: the last processor, so that nothing is added after it."""
        return self.mask(event) if isinstance(event, str) else event


def _forms(secret: str) -> set[str]:
    """Give a secret as it is, as an exception may quote it, each as JSON has it, and as it stands in an address."""
    quoted = {secret, repr(secret)[1:-1]}
    in_json = {json.dumps(one, ensure_ascii=ascii_only)[1:-1] for one in quoted for ascii_only in (True, False)}
    return {*quoted, *in_json, quote(secret, safe="")}


def secret_values(value: object) -> Iterator[str]:
    """Give every secret in a setting: a `SecretStr`, or of an address its password, however deep in a collection."""
    match value:
        case SecretStr() if "://" in value.get_secret_value():  # of an address, the rest may be known to all
            yield from filter(None, (unquote(urlsplit(value.get_secret_value()).password or ""),))
        case SecretStr():
            yield value.get_secret_value()
        case SecretBytes():
            yield value.get_secret_value().decode(errors="replace")
        case PostgresDsn():
            yield from (unquote(host["password"]) for host in value.hosts() if host["password"])
        case AnyUrl() | RedisDsn():
            yield from (unquote(value.password),) if value.password else ()
        case Mapping():
            yield from (secret for one in value.values() for secret in secret_values(one))
        case list() | tuple() | set() | frozenset():
            yield from (secret for one in value for secret in secret_values(one))
        case _:
            return


def weakness(secret: str) -> str | None:
    """Say what is wrong with a secret, without a word of it; None when nothing is.

    It finds what was never meant to be one, and not what merely could be longer: that is a matter of each setting.
    """
    if len(secret) < _MIN_CHARACTERS:
        return f"needs at least {_MIN_CHARACTERS} characters"
    if len(set(secret)) < _MIN_DIFFERENT:
        return f"repeats itself: fewer than {_MIN_DIFFERENT} different characters"
    if any(word in secret.casefold() for word in _GUESSED_FIRST):
        return "is one that is guessed first: make it at random"
    return None
