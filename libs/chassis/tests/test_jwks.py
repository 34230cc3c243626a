"""Keys from a JWKS URL, over real HTTP, with real keys."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi import FastAPI
from jose import jwk, jws, jwt
from prometheus_client import REGISTRY
from starlette.responses import JSONResponse, Response

from chassis.errors import UnavailableError
from chassis.identity.jwk_set import parse_jwks
from chassis.identity.jwks import FETCH_FLOOR, MAX_AGE, POLICY, REFRESH_AFTER, JwksKeys
from chassis.identity.tokens import InvalidTokenError, TokenVerifier
from chassis.outages import patient
from chassis.testing import AUDIENCE, ISSUER, PATIENCE, listening
from devstack.polling import within

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
        self.may_answer = asyncio.Event()
        self.app = FastAPI()
        self.app.add_api_route("/jwks", self._serve)

    async def _serve(self) -> Response:
        self.fetches += 1
        await asyncio.sleep(0.02)  # long enough for concurrent requests to meet
        await self.may_answer.wait()
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


async def eventually(holds: Callable[[], bool]) -> bool:
    async def asked() -> bool:
        return holds()

    return await within(PATIENCE, asked, 0.01)


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
    keyring.may_answer.set()
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
async def keys(issuer: Issuer, clock: Clock) -> AsyncIterator[JwksKeys]:
    async with listening(issuer.app) as url, httpx2.AsyncClient(timeout=None) as client:
        # No test here is about time-outs, and no machine too slow for one.
        yield JwksKeys(f"{url}/jwks", client, clock=clock, policy=patient(POLICY))


@pytest.fixture
def verifier(keys: JwksKeys) -> TokenVerifier:
    return TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, clock_skew=30)


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


async def test_a_rotated_key_is_found_at_once_and_the_old_one_holds_while_it_is_served(
    verifier: TokenVerifier, keys: JwksKeys, issuer: Issuer
) -> None:
    await keys.refresh()
    issuer.keys = [issuer.ed25519_jwk("ed-2"), *issuer.keys]
    assert (await verifier.verify(issuer.token("EdDSA", "ed-2"))).id == "alice"
    assert (await verifier.verify(issuer.token("EdDSA", "ed-1"))).id == "alice"
    assert issuer.fetches == 2


async def test_a_flood_of_unknown_key_ids_reaches_the_issuer_once_per_floor(
    verifier: TokenVerifier, keys: JwksKeys, issuer: Issuer, clock: Clock
) -> None:
    async def refused(number: int) -> None:
        with pytest.raises(InvalidTokenError, match="unknown key"):
            await verifier.verify(issuer.token("ES256", f"made-up-{number}"))

    await keys.refresh()
    for number in range(50):
        await refused(number)
    assert issuer.fetches == 2
    clock.now += FETCH_FLOOR
    await asyncio.gather(*map(refused, range(50)))
    assert issuer.fetches == 3


async def test_known_keys_work_without_waiting_while_others_wait_for_the_issuer(
    verifier: TokenVerifier, keys: JwksKeys, issuer: Issuer
) -> None:
    await keys.refresh()
    issuer.may_answer.clear()
    unknown = asyncio.create_task(verifier.verify(issuer.token("ES256", "made-up")))
    assert await eventually(lambda: issuer.fetches == 2)
    assert (await verifier.verify(issuer.token("ES256", "ec-1"))).id == "alice"
    assert not unknown.done()
    issuer.may_answer.set()
    with pytest.raises(InvalidTokenError, match="unknown key"):
        await unknown


async def test_known_keys_go_on_working_while_the_issuer_is_down_up_to_an_age(
    verifier: TokenVerifier, keys: JwksKeys, issuer: Issuer, clock: Clock
) -> None:
    await keys.refresh()
    issuer.answer = Response(status_code=500)
    clock.now += MAX_AGE
    await keys.refresh()
    fetches = issuer.fetches
    assert (await verifier.verify(issuer.token("ES256", "ec-1"))).id == "alice"
    assert issuer.fetches == fetches > 1
    clock.now += 1
    with pytest.raises(UnavailableError):
        await verifier.verify(issuer.token("ES256", "ec-1"))
    issuer.answer = None
    assert (await verifier.verify(issuer.token("ES256", "ec-1"))).id == "alice"


async def test_the_age_of_the_keys_and_their_number_are_metrics(
    keys: JwksKeys, clock: Clock, verifier: TokenVerifier
) -> None:
    assert REGISTRY.get_sample_value("taskwire_jwks_age_seconds") == float("inf")
    await keys.refresh()
    clock.now += 77
    assert REGISTRY.get_sample_value("taskwire_jwks_age_seconds") == 77
    assert REGISTRY.get_sample_value("taskwire_jwks_keys") == 3
    clock.now += MAX_AGE
    assert REGISTRY.get_sample_value("taskwire_jwks_keys") == 0


async def test_a_key_the_issuer_removed_stops_working_with_the_next_refresh(
    verifier: TokenVerifier, keys: JwksKeys, issuer: Issuer, clock: Clock
) -> None:
    await verifier.verify(issuer.token("ES256", "ec-1"))
    issuer.keys = [issuer.ed25519_jwk("ed-1")]
    clock.now += REFRESH_AFTER - 1
    await keys.refresh()
    await verifier.verify(issuer.token("ES256", "ec-1"))
    clock.now += 1
    await keys.refresh()
    with pytest.raises(InvalidTokenError, match="unknown key"):
        await verifier.verify(issuer.token("ES256", "ec-1"))


async def test_keys_are_fetched_in_the_background_before_anybody_asks_and_again_when_it_is_time(
    keys: JwksKeys, issuer: Issuer, clock: Clock
) -> None:
    async with keys.refreshing(every=0.01):
        assert await eventually(lambda: keys.age == 0)
        issuer.answer = Response(status_code=500)
        clock.now += REFRESH_AFTER
        assert await eventually(lambda: issuer.fetches > 3)
        assert keys.age == REFRESH_AFTER
        issuer.answer = None
        assert await eventually(lambda: keys.age == 0)


@pytest.mark.parametrize(
    "answer",
    [
        Response(b"[" * 100_000),
        Response(status_code=500),
        Response(status_code=302, headers={"Location": "http://127.0.0.1:1/"}),
        Response("<html>"),
        JSONResponse([]),
        JSONResponse({"keys": []}),
        JSONResponse({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "ec-1"}]}),
        JSONResponse({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ec-1"}]}),
        Response(b"[" * 300_000),
    ],
    ids=["deep", "500", "redirect", "html", "list", "no-keys", "symmetric", "short-key", "too-large"],
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


@pytest.mark.parametrize(
    "change",
    [{"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": "verify"}, {"alg": "ES384"}, {"crv": "P-384"}, {"kid": 7}],
    ids=str,
)
async def test_a_key_that_is_for_something_else_verifies_nothing(
    verifier: TokenVerifier, issuer: Issuer, change: Jwk
) -> None:
    issuer.keys = [issuer.ed25519_jwk("ed-1"), issuer.public_jwk(issuer.ec, "ES256", "ec-1") | change]
    with pytest.raises(InvalidTokenError, match="unknown key"):
        await verifier.verify(issuer.token("ES256", "ec-1"))


async def test_a_key_may_say_what_it_is_for(verifier: TokenVerifier, issuer: Issuer) -> None:
    said = {"use": "sig", "key_ops": ["verify"], "alg": "ES256"}
    issuer.keys = [issuer.public_jwk(issuer.ec, "ES256", "ec-1") | said]
    assert (await verifier.verify(issuer.token("ES256", "ec-1"))).id == "alice"


@pytest.mark.parametrize(("bits", "holds"), [(1024, False), (2040, False), (3072, True), (8200, False)])
def test_rsa_keys_that_are_weak_or_a_burden_are_not_used(issuer: Issuer, bits: int, holds: bool) -> None:
    modulus = b64(((1 << (bits - 1)) + 1).to_bytes((bits + 7) // 8))
    entry = {"kty": "RSA", "kid": "rsa", "n": modulus, "e": "AQAB"}
    document = json.dumps({"keys": [issuer.ed25519_jwk("ed-1"), entry]}).encode()
    assert ("rsa" in parse_jwks(document)) is holds


async def test_two_keys_with_one_id_are_both_not_used(verifier: TokenVerifier, issuer: Issuer) -> None:
    issuer.keys += [issuer.ed25519_jwk("ec-1")]
    assert (await verifier.verify(issuer.token("EdDSA", "ed-1"))).id == "alice"
    for algorithm in ("ES256", "EdDSA"):
        with pytest.raises(InvalidTokenError, match="unknown key"):
            await verifier.verify(issuer.token(algorithm, "ec-1"))
