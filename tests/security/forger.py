"""Somebody who signs whatever they like: an identity provider with its keys, and what an attacker makes of them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from pydantic import JsonValue
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chassis.testing import AUDIENCE, ISSUER

Json = dict[str, JsonValue]
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_P256_BYTES: Final = 32


def b64(data: bytes) -> str:
    """Encode as JOSE does (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True)
class KeyPair:
    """A private key under the name that the JWKS document gives it."""

    kid: str
    algorithm: str
    private: PrivateKey

    def public_jwk(self) -> Json:
        """Give what the JWKS document says of it."""
        public = self.private.public_key()
        about: Json = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        if isinstance(public, ed25519.Ed25519PublicKey):
            return about | {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
        if isinstance(public, ec.EllipticCurvePublicKey):
            point = public.public_numbers()
            x, y = (b64(value.to_bytes(_P256_BYTES, "big")) for value in (point.x, point.y))
            return about | {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        numbers = public.public_numbers()
        return about | {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}

    def public_pem(self) -> bytes:
        """Give the public half as everybody can have it."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)

    def sign(self, message: bytes) -> bytes:
        """Sign as the algorithm of the key says (RFC 7518, RFC 8037)."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")
        return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())


@dataclass
class Provider:
    """The identity provider, and a stranger's key that it does not know.

    Attributes:
        url: Where it is served.
        asked: The path of every request it got.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)
    ed25519: KeyPair = field(default_factory=lambda: KeyPair("ed-1", "EdDSA", ed25519.Ed25519PrivateKey.generate()))
    ec: KeyPair = field(default_factory=lambda: KeyPair("ec-1", "ES256", ec.generate_private_key(ec.SECP256R1())))
    rsa: KeyPair = field(default_factory=lambda: KeyPair("rsa-1", "RS256", rsa.generate_private_key(65537, 2048)))
    stranger: KeyPair = field(default_factory=lambda: KeyPair("evil", "EdDSA", ed25519.Ed25519PrivateKey.generate()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the JWKS document, whatever is asked for (ASGI)."""
        self.asked.append(scope["path"])
        await Response(self.document(), media_type="application/json")(scope, receive, send)

    def document(self) -> bytes:
        """Give the JWKS document."""
        return json.dumps({"keys": [key.public_jwk() for key in (self.ed25519, self.ec, self.rsa)]}).encode()


def claims(**changes: JsonValue) -> Json:
    """Give the claims of a good token, changed; None leaves one out."""
    now = int(time.time())
    good: Json = {"sub": "mallory", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 3600}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(key: KeyPair, payload: Json | None = None, **header: JsonValue) -> str:
    """Make a token that is signed with a key, whatever its header says."""
    given: Json = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid}
    return assemble(given | header, claims() if payload is None else payload, key.sign)


def assemble(header: Mapping[str, JsonValue], payload: Json, sign: Callable[[bytes], bytes]) -> str:
    """Put a compact JWS together (RFC 7515, section 7.1)."""
    left_out = {name: value for name, value in header.items() if value is not None}
    signed = f"{b64(json.dumps(left_out).encode())}.{b64(json.dumps(payload).encode())}"
    return f"{signed}.{b64(sign(signed.encode()))}"


class Signer:
    """Signs with bytes as a shared secret: what HS256 makes of somebody's public key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __call__(self, message: bytes) -> bytes:
        """Give the HMAC-SHA-256."""
        return hmac.new(self._secret, message, hashlib.sha256).digest()
