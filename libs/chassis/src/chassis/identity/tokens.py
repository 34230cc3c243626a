"""Bearer JWTs: a token becomes a `Principal`, or is refused.

python-jose checks signatures and claims; `TokenVerifier` is strict around it: the algorithm must be allowed
*and* belong to the key's type, `exp sub iss aud` must be there, `crit` is refused (RFC 7515, 7519, 8725).
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from fastapi import Request
from jose import jwt
from jose.backends.base import Key
from jose.exceptions import ExpiredSignatureError, JOSEError

from chassis.identity.guards import InvalidCredentialError
from chassis.identity.principal import Principal
from chassis.identity.subjects import is_subject

MAX_TOKEN_CHARS: Final = 8192
_FOR_EVER: Final = 2**53

JwtClaims = dict[str, Any]  # a JSON object made by somebody else: every value is checked before use


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

    def __init__(self, keys: KeySource, *, issuer: str, audience: str, clock_skew: int) -> None:
        """Say whose tokens are accepted.

        Args:
            keys: Where the keys come from.
            issuer: The only accepted `iss`.
            audience: What `aud` must contain.
            clock_skew: Seconds that `exp`, `nbf` and `iat` may be off.
        """
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self._options = {
            "leeway": clock_skew,
            "require_exp": True,
            "require_sub": True,
            "require_iss": True,
            "require_aud": True,
            "verify_at_hash": False,
        }

    async def verify(self, token: str) -> Principal:
        """Verify a token.

        Raises:
            InvalidTokenError: It does not hold, with a reason that is safe to show.
            UnavailableError: The keys cannot be had right now.
        """
        header = _read_header(token)
        key_id = header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise InvalidTokenError("The token's header is malformed.")
        found = await self._keys.find(algorithm=str(header.get("alg")), key_id=key_id)
        try:
            claims: JwtClaims = jwt.decode(
                token,
                found.key,
                algorithms=[found.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options=self._options,
            )
        except ExpiredSignatureError:
            raise InvalidTokenError("The token has expired.") from None
        except (JOSEError, ValueError, TypeError, OverflowError):
            raise InvalidTokenError("The token is not valid here.") from None
        return _principal(claims)


def _read_header(token: str) -> JwtClaims:
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidTokenError(f"The token is longer than {MAX_TOKEN_CHARS} characters.")
    try:
        header: JwtClaims = jwt.get_unverified_header(token)
    except (JOSEError, ValueError, RecursionError):
        raise InvalidTokenError("The token is not a JWT.") from None
    if "crit" in header:
        raise InvalidTokenError("The token uses critical extensions, which are not supported.")
    return header


def _principal(claims: JwtClaims) -> Principal:
    subject, roles = claims.get("sub"), claims.get("roles", [])
    if not is_subject(subject):
        raise InvalidTokenError("The token's subject is malformed.")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise InvalidTokenError("The token's roles are malformed.")
    return Principal(subject, frozenset(roles), expires_at=float(min(int(claims["exp"]), _FOR_EVER)))


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
