"""The compact form of a JWS (RFC 7515), read more strictly than libraries do.

What two readers could understand differently is refused: base64 that is not canonical, a member that is there twice,
numbers that JSON does not have.
"""

import base64
import json
import re
from typing import Any, Final, NoReturn

JsonObject = dict[str, Any]  # made by somebody else: every value is checked before use

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class MalformedError(ValueError):
    """Not the compact form of a JWS, or one that can be read in two ways."""


def read_compact(token: str) -> tuple[JsonObject, str]:
    """Give the header of a token, and its payload as it stands there.

    Raises:
        MalformedError: It is no token.
    """
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        raise MalformedError("not three parts of base64url")
    header, payload, signature = parts.groups()
    for part in (payload, signature):
        decoded(part)
    return read_object(header), payload


def read_object(part: str) -> JsonObject:
    """Read a part of a token that is a JSON object.

    Raises:
        MalformedError: It is none, or a member is there twice.
    """
    try:
        found = json.loads(decoded(part).decode(), object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedError("not a JSON object") from None
    if not isinstance(found, dict):
        raise MalformedError("not a JSON object")
    return found


def decoded(part: str) -> bytes:
    """Decode base64url without padding, of which each value has exactly one form.

    Raises:
        MalformedError: It is not that one form.
    """
    try:
        found = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise MalformedError("not base64url") from None
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != part:
        raise MalformedError("not canonical base64url")
    return found


def _without_doubles(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a member is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is no JSON")
