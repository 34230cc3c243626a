"""The settings of trusted proxies: their keys, and the roles that they may give. Weak ones are refused at start."""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from chassis.identity.permissions import EVERYBODY, ROLES

MIN_SECRET_BYTES: Final = 32
"""As long as what HMAC-SHA256 makes of it (RFC 2104)."""
MIN_DIFFERENT_CHARS: Final = 10
"""Of 64 random hexadecimal digits practically never fewer are different; of a word that is repeated, mostly."""
MAX_KEYS: Final = 10

_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")  # visible ASCII but the comma


def _read_keys(given: object) -> object:
    """Read `id:secret,id:secret`."""
    if not isinstance(given, str):
        return given
    keys: dict[str, SecretStr] = {}
    for number, part in enumerate(filter(None, (one.strip() for one in given.split(","))), 1):
        key_id, separator, secret = part.partition(":")
        if not separator or not _KEY_ID.fullmatch(key_id):
            raise ValueError(f"is a list of id:secret, of which the id of number {number} is none")
        if key_id in keys:
            raise ValueError(f"has two keys {key_id}")
        _refuse_weak(key_id, secret)
        keys[key_id] = SecretStr(secret)
    if len(keys) > MAX_KEYS:
        raise ValueError(f"has more than {MAX_KEYS} keys")
    if len({secret.get_secret_value() for secret in keys.values()}) < len(keys):
        raise ValueError("has the same secret under two ids")
    return keys


def _refuse_weak(key_id: str, secret: str) -> None:
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"needs at least {MIN_SECRET_BYTES} bytes for the secret of {key_id}")
    if not _SECRET.fullmatch(secret):
        raise ValueError(f"takes visible ASCII without commas for the secret of {key_id}")
    if len(set(secret)) < MIN_DIFFERENT_CHARS:
        raise ValueError(f"needs a random secret for {key_id}, e.g. of `openssl rand -hex 32`")


def _read_roles(given: object) -> object:
    """Read `role,role`."""
    if not isinstance(given, str):
        return given
    roles = tuple(filter(None, (one.strip() for one in given.split(","))))
    for role in roles:
        if role not in ROLES or role == EVERYBODY:
            known = ", ".join(sorted(ROLES.keys() - {EVERYBODY}))
            raise ValueError(f"takes roles that can be given: {known}")
    return roles


ProxyKeys = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_read_keys)]
"""Secrets by key id."""
ProxyRoles = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_roles)]
