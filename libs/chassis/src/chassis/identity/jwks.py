"""Verification keys from a JWKS URL (RFC 7517), as Better Auth serves them at `/api/auth/jwks`.

Fetches are single flight with a floor between them, so a flood of unknown key ids costs the issuer nothing;
when the issuer is down, known keys go on working.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import httpx2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JOSEError, JWKError
from jose.utils import base64url_decode
from typing_extensions import override

from chassis.errors import UnavailableError
from chassis.identity.tokens import InvalidTokenError, VerificationKey
from chassis.logging import get_logger
from chassis.resilience import CallPolicy, CircuitOpenError, ResilientCall

FRESH_FOR: Final = 600.0
"""Seconds after which keys are fetched again even when nothing is missing, so that removed keys go."""
FETCH_FLOOR: Final = 30.0
"""Seconds between two fetches, whatever key ids are asked for."""
POLICY: Final = CallPolicy("jwks", timeout=3.0, attempts=2, recovery_timeout=10.0)
MAX_DOCUMENT_BYTES: Final = 256 * 1024
_ALGORITHM_OF: Final = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", None): "RS256"}

Jwk = dict[str, Any]  # JSON from the issuer: checked field by field in `_usable_key`
_logger = get_logger(__name__)


class Ed25519Key(Key):
    """Ed25519 verification for python-jose, which has none (RFC 8037)."""

    def __init__(self, key: Jwk, algorithm: str) -> None:
        super().__init__(key, algorithm)
        if algorithm != "EdDSA" or key.get("kty") != "OKP" or key.get("crv") != "Ed25519":
            raise JWKError("not an Ed25519 key")
        try:
            self._public = Ed25519PublicKey.from_public_bytes(base64url_decode(str(key["x"]).encode()))
        except (KeyError, ValueError) as error:
            raise JWKError("not an Ed25519 key") from error

    @override
    def verify(self, msg: bytes, sig: bytes) -> bool:
        """Tell whether `sig` is this key's signature of `msg`."""
        try:
            self._public.verify(sig, msg)
        except InvalidSignature:
            return False
        return True

    @override
    def public_key(self) -> "Ed25519Key":
        """Give the public half, which is all there is."""
        return self


jwk.register_key("EdDSA", Ed25519Key)


class JwksKeys:
    """The issuer's keys, cached."""

    def __init__(
        self,
        url: str,
        client: httpx2.AsyncClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        policy: CallPolicy = POLICY,
    ) -> None:
        """Say where the keys are.

        Args:
            url: The JWKS document.
            client: Used for the fetches; must not follow redirects.
            clock: Seconds that never go back.
            policy: How a fetch is made.
        """
        self._url, self._client, self._clock = url, client, clock
        self._keys: dict[str, VerificationKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetches = 0
        self._fetching = asyncio.Lock()
        self._call = ResilientCall(policy)

    async def find(self, *, algorithm: str, key_id: str | None) -> VerificationKey:
        """Give the key a token header asks for.

        Raises:
            InvalidTokenError: The issuer has no such key, or it is for another algorithm.
            UnavailableError: No key has ever been fetched and the issuer does not answer.
        """
        if key_id is None:
            raise InvalidTokenError("The token names no key.")
        if key_id not in self._keys or self._clock() - self._fetched_at > FRESH_FOR:
            await self._refresh(key_id)
        found = self._keys.get(key_id)
        if found is None:
            if not self._keys:
                raise UnavailableError("The identity provider's keys cannot be fetched.", retry_after=5)
            raise InvalidTokenError("The token is signed with an unknown key.")
        if found.algorithm != algorithm:
            raise InvalidTokenError("The token is signed with an algorithm that is not accepted here.")
        return found

    async def _refresh(self, wanted: str) -> None:
        fetches = self._fetches
        async with self._fetching:
            now = self._clock()
            answered_meanwhile = wanted in self._keys and now - self._fetched_at <= FRESH_FOR
            # Whoever waited for a fetch takes its outcome, also a failure: else each would wait for one more timeout.
            if answered_meanwhile or fetches != self._fetches or now - self._tried_at < FETCH_FLOOR:
                return
            self._tried_at = now
            try:
                self._keys = await self._call(self._fetch)
                self._fetched_at = self._clock()
            except (httpx2.HTTPError, ValueError, TimeoutError, CircuitOpenError) as error:
                _logger.warning("jwks fetch failed", url=self._url, error=repr(error), keys_kept=len(self._keys))
                if not self._keys:
                    self._tried_at = float("-inf")  # nothing works yet: let the next request try, behind the breaker
            finally:
                self._fetches += 1

    async def _fetch(self) -> dict[str, VerificationKey]:
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as response:
            response.raise_for_status()
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise ValueError("the JWKS document is too large")
        return parse_jwks(body)


def parse_jwks(document: bytes) -> dict[str, VerificationKey]:
    """Read a JWKS document; keys that cannot verify a signature here are left out.

    Raises:
        ValueError: Not a JWKS document, or no usable key in it.
    """
    parsed = json.loads(document)
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS document")  # noqa: TRY004 (what a caller gave, not a wrong call)
    keys = {entry["kid"]: key for entry in entries if isinstance(entry, dict) and (key := _usable_key(entry))}
    if not keys:
        raise ValueError("the JWKS document has no usable key")
    return keys


def _usable_key(entry: Jwk) -> VerificationKey | None:
    kty, crv = entry.get("kty"), entry.get("crv")
    algorithm = _ALGORITHM_OF.get((str(kty), str(crv) if crv is not None else None))
    fits = entry.get("alg", algorithm) == algorithm and entry.get("use", "sig") == "sig"
    if algorithm is None or not fits or not isinstance(entry.get("kid"), str):
        return None
    try:
        return VerificationKey(algorithm, jwk.construct(entry, algorithm))
    except (JOSEError, ValueError, TypeError):
        return None
