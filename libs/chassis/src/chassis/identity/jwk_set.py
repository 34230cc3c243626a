"""Reads a JWKS document (RFC 7517): of its keys, those that can verify a signature here, each for one algorithm."""

import json
from collections import Counter
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JOSEError, JWKError
from jose.utils import base64url_decode
from typing_extensions import override

from chassis.identity.tokens import VerificationKey
from chassis.logging import get_logger

MIN_RSA_BITS: Final = 2048
"""RFC 7518 section 3.3; shorter ones can be factored, by those who mean it."""
MAX_RSA_BITS: Final = 8192
"""Longer ones take so long to verify with that a token is a burden."""
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


class _UnusableKeyError(Exception):
    """Why a key is left out."""


def parse_jwks(document: bytes) -> dict[str, VerificationKey]:
    """Read a JWKS document; keys that cannot verify a signature here are left out, and the log says why.

    Raises:
        ValueError: Not a JWKS document, or no usable key in it.
    """
    try:
        parsed = json.loads(document)
    except RecursionError:
        raise ValueError("not a JWKS document") from None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS document")  # noqa: TRY004 (what a caller gave, not a wrong call)
    named = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("kid"), str)]
    times = Counter(entry["kid"] for entry in named)
    keys: dict[str, VerificationKey] = {}
    for entry in named:
        try:
            keys[entry["kid"]] = _usable_key(entry, unique=times[entry["kid"]] == 1)
        except _UnusableKeyError as reason:
            _logger.warning("key of the identity provider is not used", key_id=entry["kid"][:100], reason=str(reason))
    if not keys:
        raise ValueError("the JWKS document has no usable key")
    return keys


def _usable_key(entry: Jwk, *, unique: bool) -> VerificationKey:
    if not unique:
        raise _UnusableKeyError("another key has the same id")
    kty, crv = entry.get("kty"), entry.get("crv")
    algorithm = _ALGORITHM_OF.get((str(kty), str(crv) if crv is not None else None))
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        raise _UnusableKeyError("not of a type that is accepted here: EdDSA with Ed25519, ES256, RS256")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise _UnusableKeyError("not for signatures")
    if kty == "RSA" and not MIN_RSA_BITS <= _rsa_bits(entry) <= MAX_RSA_BITS:
        raise _UnusableKeyError(f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    try:
        return VerificationKey(algorithm, jwk.construct(entry, algorithm))
    except (JOSEError, ValueError, TypeError):
        raise _UnusableKeyError("it cannot be read") from None


def _rsa_bits(entry: Jwk) -> int:
    try:
        return int.from_bytes(base64url_decode(str(entry.get("n")).encode())).bit_length()
    except (ValueError, TypeError):
        return 0
