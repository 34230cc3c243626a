"""Who is calling: a bearer JWT becomes a `Principal`, or the request is refused.

python-jose checks signatures and claims; `TokenVerifier` is strict around it: the algorithm must be allowed
*and* belong to the key's type, `exp sub iss aud` must be there, `crit` is refused (RFC 7515, 7519, 8725).
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose import jwt
from jose.backends.base import Key
from jose.exceptions import ExpiredSignatureError, JOSEError

from chassis.errors import UnauthenticatedError
from chassis.logging import get_logger

MAX_TOKEN_CHARS: Final = 8192
_SUBJECT = re.compile(r"[^\x00-\x20\x7f]{1,255}")
_FOR_EVER: Final = 2**53
_logger = get_logger(__name__)

JwtClaims = dict[str, Any]  # a JSON object made by somebody else: every value is checked before use


class InvalidTokenError(Exception):
    """The token does not hold; the message is safe to show."""


@dataclass(frozen=True)
class Principal:
    """A verified caller.

    Attributes:
        id: The `sub` of the token; owner of what the caller creates.
        roles: Names from the `roles` claim.
        expires_at: Unix time at which the credential ends, for what outlasts a request; None when it does not.
    """

    id: str
    roles: frozenset[str] = frozenset()
    expires_at: float | None = field(default=None, compare=False)

    def has_any_role(self, *names: str) -> bool:
        """Tell whether the caller has at least one of the roles."""
        return not self.roles.isdisjoint(names)


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
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise InvalidTokenError("The token's subject is malformed.")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise InvalidTokenError("The token's roles are malformed.")
    return Principal(subject, frozenset(roles), expires_at=float(min(int(claims["exp"]), _FOR_EVER)))


_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="JWT of the identity provider")


async def get_current_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Give a route its verified caller.

    Raises:
        UnauthenticatedError: No bearer token, or one that does not hold.
    """
    if credentials is None:
        raise UnauthenticatedError("Send a bearer token: `Authorization: Bearer …`.", credential_given=False)
    verifier: TokenVerifier = request.app.state.token_verifier
    try:
        return await verifier.verify(credentials.credentials)
    except InvalidTokenError as error:
        _logger.info("token refused", reason=str(error))
        raise UnauthenticatedError(str(error)) from error


CurrentUser = Annotated[Principal, Depends(get_current_user)]
