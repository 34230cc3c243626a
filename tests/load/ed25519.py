"""Tokens by EdDSA and the JWKS document that verifies them."""

import base64
import json
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwks_of(private: Ed25519PrivateKey) -> dict[str, list[dict[str, str]]]:
    """Give the document with one key."""
    key = {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "kid": "k",
        "x": _b64(private.public_key().public_bytes_raw()),
    }
    return {"keys": [key]}


def token_of(private: Ed25519PrivateKey, issuer: str, audience: str) -> str:
    """Make a token of alice's that holds for an hour."""
    header = {"alg": "EdDSA", "kid": "k"}
    claims = {"sub": "alice", "iss": issuer, "aud": audience, "exp": int(time.time()) + 3600}
    signed = ".".join(_b64(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{_b64(private.sign(signed.encode()))}"
