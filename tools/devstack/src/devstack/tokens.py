"""Development tokens: signed with the secret of this stack, worth nothing anywhere else."""

import time
from collections.abc import Sequence
from typing import Final

from jose import jwt

from devstack.services import AUTH_AUDIENCE, AUTH_ISSUER

LIFETIME: Final = 12 * 3600
"""Seconds a token is valid unless told otherwise."""


def make_token(secret: str, user: str, roles: Sequence[str] = (), lifetime: int = LIFETIME) -> str:
    """A signed JWT (HS256) for a user, as the services of a development stack accept it."""
    now = int(time.time())
    claims = {
        "sub": user,
        "iss": AUTH_ISSUER,
        "aud": AUTH_AUDIENCE,
        "iat": now,
        "exp": now + lifetime,
        "roles": list(roles),
    }
    return str(jwt.encode(claims, secret, algorithm="HS256"))
