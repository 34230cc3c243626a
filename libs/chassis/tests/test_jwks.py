"""Keys from a JWKS URL, over real HTTP, with real keys."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi import FastAPI
from jose import jwk, jws, jwt
from starlette.responses import JSONResponse, Response

from chassis.errors import UnavailableError
from chassis.identity.jwks import FETCH_FLOOR, FRESH_FOR, JwksKeys
from chassis.identity.tokens import InvalidTokenError, TokenVerifier
from chassis.testing import AUDIENCE, ISSUER, listening

Jwk = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Issuer:
    """An identity provider: keys, tokens, and a JWKS document that can be made to fail."""

    def __init__(self) -> None:
        self.ed25519 = ed25519.Ed25519PrivateKey.generate()
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.keys: list[Jwk] = [self.ed25519_jwk("ed-1"), self.public_jwk(self.ec, "ES256", "ec-1")]
        self.keys.append(self.public_jwk(self.rsa, "RS256", "rsa-1"))
        self.fetches = 0
        self.answer: Response | None = None
        self.app = FastAPI()
        self.app.add_api_route("/jwks", self._serve)

    async def _serve(self) -> Response:
        self.fetches += 1
        await asyncio.sleep(0.02)  # long enough for concurrent requests to meet
        return self.answer or JSONResponse({"keys": self.keys})

    def ed25519_jwk(self, kid: str) -> Jwk:
        raw = self.ed25519.public_key().public_bytes_raw()
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), "kid": kid, "alg": "EdDSA"}

    def public_jwk(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, alg: str, kid: str) -> Jwk:
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return jwk.construct(pem, alg).to_dict() | {"kid": kid}

    def token(self, algorithm: str, kid: str | None) -> str:
        header = {"kid": kid} if kid else {}
        if algorithm != "EdDSA":
            private = self.ec if algorithm == "ES256" else self.rsa
            pem = private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            return str(jwt.encode(self.claims(), pem, algorithm=algorithm, headers=header))
        signed = jws.sign(self.claims(), "k" * 32, headers=header, algorithm="HS256").rsplit(".", 1)[0]
        claims = signed.split(".")[1]
        protected = b64(f'{{"alg":"EdDSA","kid":"{kid}"}}'.encode())
        return f"{protected}.{claims}.{b64(self.ed25519.sign(f'{protected}.{claims}'.encode()))}"

    @staticmethod
    def claims() -> dict[str, Any]:
        exp = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
        return {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": exp}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def keyring() -> Issuer:
    return Issuer()


@pytest.fixture
def issuer(keyring: Issuer) -> Issuer:
    """An issuer as new; making an RSA key takes long enough to do it once."""
    keyring.fetches, keyring.answer = 0, None
    keyring.keys = [
        keyring.ed25519_jwk("ed-1"),
        keyring.public_jwk(keyring.ec, "ES256", "ec-1"),
        keyring.public_jwk(keyring.rsa, "RS256", "rsa-1"),
    ]
    return keyring


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(issuer: Issuer, clock: Clock) -> AsyncIterator[TokenVerifier]:
    async with listening(issuer.app) as url, httpx2.AsyncClient() as client:
        keys = JwksKeys(f"{url}/jwks", client, clock=clock)
        yield TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, clock_skew=30)


KINDS = [("EdDSA", "ed-1"), ("ES256", "ec-1"), ("RS256", "rsa-1")]


@pytest.mark.parametrize(("algorithm", "kid"), KINDS)
async def test_a_token_of_every_key_type_holds(
    verifier: TokenVerifier, issuer: Issuer, algorithm: str, kid: str
) -> None:
    assert (await verifier.verify(issuer.token(algorithm, kid))).id == "alice"


@pytest.mark.parametrize(("algorithm", "kid"), KINDS)
async def test_a_changed_signature_is_refused(
    verifier: TokenVerifier, issuer: Issuer, algorithm: str, kid: str
) -> None:
    signed, signature = issuer.token(algorithm, kid).rsplit(".", 1)
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    with pytest.raises(InvalidTokenError):
        await verifier.verify(f"{signed}.{flipped}")


@pytest.mark.parametrize(("algorithm", "kid"), [("EdDSA", "ec-1"), ("ES256", "rsa-1"), ("RS256", "ed-1")])
async def test_an_algorithm_that_is_not_the_keys_own_is_refused(
    verifier: TokenVerifier, issuer: Issuer, algorithm: str, kid: str
) -> None:
    with pytest.raises(InvalidTokenError, match="algorithm"):
        await verifier.verify(issuer.token(algorithm, kid))


async def test_a_public_key_used_as_an_hmac_secret_is_refused(verifier: TokenVerifier, issuer: Issuer) -> None:
    public = issuer.keys[0]["x"]
    forged = jwt.encode(issuer.claims(), public, algorithm="HS256", headers={"kid": "ed-1"})
    with pytest.raises(InvalidTokenError, match="algorithm"):
        await verifier.verify(forged)


async def test_a_token_that_names_no_key_is_refused(verifier: TokenVerifier, issuer: Issuer) -> None:
    with pytest.raises(InvalidTokenError, match="names no key"):
        await verifier.verify(issuer.token("ES256", None))


async def test_keys_are_fetched_once_for_many_requests_at_once(verifier: TokenVerifier, issuer: Issuer) -> None:
    await asyncio.gather(*(verifier.verify(issuer.token("ES256", "ec-1")) for _ in range(20)))
    assert issuer.fetches == 1


async def test_a_rotated_key_is_found_without_restart(verifier: TokenVerifier, issuer: Issuer, clock: Clock) -> None:
    await verifier.verify(issuer.token("ES256", "ec-1"))
    issuer.keys = [issuer.ed25519_jwk("ed-2")]
    clock.now += FETCH_FLOOR
    assert (await verifier.verify(issuer.token("EdDSA", "ed-2"))).id == "alice"


async def test_a_flood_of_unknown_key_ids_reaches_the_issuer_once_per_floor(
    verifier: TokenVerifier, issuer: Issuer, clock: Clock
) -> None:
    async def flood() -> None:
        for number in range(50):
            with pytest.raises(InvalidTokenError, match="unknown key"):
                await verifier.verify(issuer.token("ES256", f"made-up-{number}"))

    await flood()
    assert issuer.fetches == 1
    clock.now += FETCH_FLOOR
    await flood()
    assert issuer.fetches == 2


async def test_known_keys_go_on_working_while_the_issuer_is_down(
    verifier: TokenVerifier, issuer: Issuer, clock: Clock
) -> None:
    await verifier.verify(issuer.token("ES256", "ec-1"))
    issuer.answer = Response(status_code=500)
    clock.now += FRESH_FOR + FETCH_FLOOR
    assert (await verifier.verify(issuer.token("ES256", "ec-1"))).id == "alice"
    assert issuer.fetches > 1


async def test_a_key_the_issuer_removed_stops_working_when_keys_are_no_longer_fresh(
    verifier: TokenVerifier, issuer: Issuer, clock: Clock
) -> None:
    await verifier.verify(issuer.token("ES256", "ec-1"))
    issuer.keys = [issuer.ed25519_jwk("ed-1")]
    clock.now += FRESH_FOR + FETCH_FLOOR
    with pytest.raises(InvalidTokenError, match="unknown key"):
        await verifier.verify(issuer.token("ES256", "ec-1"))


@pytest.mark.parametrize(
    "answer",
    [
        Response(status_code=500),
        Response(status_code=302, headers={"Location": "http://127.0.0.1:1/"}),
        Response("<html>"),
        JSONResponse([]),
        JSONResponse({"keys": []}),
        JSONResponse({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "ec-1"}]}),
        JSONResponse({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ec-1"}]}),
        Response(b"[" * 300_000),
    ],
    ids=["500", "redirect", "html", "list", "no-keys", "symmetric", "short-key", "too-large"],
)
async def test_without_any_usable_key_requests_are_told_to_come_back(
    verifier: TokenVerifier, issuer: Issuer, answer: Response
) -> None:
    issuer.answer = answer
    with pytest.raises(UnavailableError) as refusal:
        await verifier.verify(issuer.token("ES256", "ec-1"))
    assert refusal.value.headers["Retry-After"]
    issuer.answer = None
    assert (await verifier.verify(issuer.token("ES256", "ec-1"))).id == "alice"


async def test_keys_for_encryption_verify_nothing(verifier: TokenVerifier, issuer: Issuer) -> None:
    issuer.keys = [issuer.ed25519_jwk("ed-1"), issuer.public_jwk(issuer.ec, "ES256", "ec-1") | {"use": "enc"}]
    with pytest.raises(InvalidTokenError, match="unknown key"):
        await verifier.verify(issuer.token("ES256", "ec-1"))
