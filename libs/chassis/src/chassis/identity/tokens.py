"""Bearer JWTs: a token becomes a `Principal`, or is refused.

python-jose checks signatures, issuer and audience; `TokenVerifier` is strict around it: the algorithm must be allowed
*and* belong to the key's type, `exp sub iss aud` must be there, `crit` is refused, and what can be read in two ways is
no token (RFC 7515, 7519, 8725). A header that says where a key is to be had (`jku`, `x5u`, `jwk`) is never looked at.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fastapi import Request
from jose import jwt
from jose.backends.base import Key
from jose.exceptions import JOSEError

from chassis.identity.compact import JsonObject, MalformedError, read_compact, read_object
from chassis.identity.guards import InvalidCredentialError
from chassis.identity.principal import Principal
from chassis.identity.subjects import is_subject

MAX_TOKEN_CHARS: Final = 8192
_FOR_EVER: Final = 2**53
_TYPES: Final = {"jwt", "at+jwt"}
"""What `typ` may say, if it says anything: tokens for other ends, such as a logout, are no credentials (RFC 8725)."""


class InvalidTokenError(InvalidCredentialError):
    """The token does not hold; the message is safe to show."""


@dataclass(frozen=True)
class VerificationKey:
    """A key together with the one algorithm it may be used with."""

    algorithm: str
    key: Key | str


class KeySource(Protocol):
    """Where verification keys come from."""

    async def find(self, *, algorithm: str, key_id: str | None) -> VerificationKey:
        """Give the key a token header asks for.

        Raises:
            InvalidTokenError: There is no such key, or not for this algorithm.
        """
        ...


class SharedSecret:
    """One HS256 secret, for development."""

    def __init__(self, secret: str) -> None:
        self._key = VerificationKey("HS256", secret)

    async def find(self, *, algorithm: str, key_id: str | None) -> VerificationKey:  # noqa: ARG002 (the port's shape)
        """Give the secret, for HS256 only."""
        if algorithm != self._key.algorithm:
            raise InvalidTokenError("The token is signed with an algorithm that is not accepted here.")
        return self._key


class TokenVerifier:
    """Turns a compact JWS into a `Principal`."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        clock_skew: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Say whose tokens are accepted.

        Args:
            keys: Where the keys come from.
            issuer: The only accepted `iss`.
            audience: What `aud` must contain.
            clock_skew: Seconds that `exp`, `nbf` and `iat` may be off.
            clock: Unix time.
        """
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self._clock_skew, self._clock = clock_skew, clock
        self._options = {
            "require_sub": True,
            "require_iss": True,
            "require_aud": True,
            "verify_at_hash": False,
            # By our own clock: what the library calls "not yet", it does not do for `iat`.
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
        }

    async def verify(self, token: str) -> Principal:
        """Verify a token.

        Raises:
            InvalidTokenError: It does not hold, with a reason that is safe to show.
            UnavailableError: The keys cannot be had right now.
        """
        header, payload = _read(token)
        key_id = header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise InvalidTokenError("The token's header is malformed.")
        found = await self._keys.find(algorithm=str(header.get("alg")), key_id=key_id)
        try:
            jwt.decode(
                token,
                found.key,
                algorithms=[found.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options=self._options,
            )
            claims = read_object(payload)
        except (JOSEError, ValueError, TypeError, OverflowError):
            raise InvalidTokenError("The token is not valid here.") from None
        return _principal(claims, expires_at=self._expiry_now(claims))

    def _expiry_now(self, claims: JsonObject) -> float:
        """Give when a token ends that holds now."""
        now = self._clock()
        expires_at, begins, issued = (_seconds(claims, name) for name in ("exp", "nbf", "iat"))
        if expires_at is None:
            raise InvalidTokenError("The token does not say when it expires.")
        if expires_at < now - self._clock_skew:
            raise InvalidTokenError("The token has expired.")
        if max(begins or 0, issued or 0) > now + self._clock_skew:
            raise InvalidTokenError("The token is not valid yet.")
        return float(min(expires_at, _FOR_EVER))


def _seconds(claims: JsonObject, name: str) -> int | None:
    """Give a claim that is a time; digits in quotes are one, as some issuers write them."""
    value = claims.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidTokenError(f"The token's {name} is malformed.") from None


def _read(token: str) -> tuple[JsonObject, str]:
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidTokenError(f"The token is longer than {MAX_TOKEN_CHARS} characters.")
    try:
        header, payload = read_compact(token)
    except MalformedError:
        raise InvalidTokenError("The token is not a JWT.") from None
    if not {"crit", "b64"}.isdisjoint(header):
        raise InvalidTokenError("The token uses critical extensions, which are not supported.")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise InvalidTokenError("The token is of a type that is not accepted here.")
    return header, payload


def _principal(claims: JsonObject, *, expires_at: float) -> Principal:
    subject, roles = claims.get("sub"), claims.get("roles", [])
    if not is_subject(subject):
        raise InvalidTokenError("The token's subject is malformed.")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise InvalidTokenError("The token's roles are malformed.")
    return Principal(subject, frozenset(roles), expires_at=expires_at)


class TokenAuthenticator:
    """Takes `Authorization: Bearer <JWT>`."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def recognizes(self, scheme: str, credential: str) -> bool:  # noqa: ARG002 (the port's shape)
        """Take every bearer token that nobody before took."""
        return scheme == "bearer"

    async def authenticate(self, request: Request, credential: str) -> Principal:  # noqa: ARG002 (the port's shape)
        """Verify the token.

        Raises:
            InvalidTokenError: It does not hold.
            UnavailableError: The keys cannot be had right now.
        """
        return await self._verifier.verify(credential)
