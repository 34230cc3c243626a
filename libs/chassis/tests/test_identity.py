"""Which tokens hold and which do not."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest

from chassis.identity import Principal
from chassis.identity.tokens import InvalidTokenError, SharedSecret, TokenVerifier
from chassis.testing import AUDIENCE, HS256_SECRET, ISSUER, make_token


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier(SharedSecret(HS256_SECRET), issuer=ISSUER, audience=AUDIENCE, clock_skew=30)


def compact(header: object, claims: object, secret: str = HS256_SECRET) -> str:
    """Sign anything, also what no JWT library would."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    signed = f"{part(header)}.{part(claims)}"
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def good_claims() -> dict[str, object]:
    exp = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    return {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": exp}


async def test_a_good_token_becomes_its_principal(verifier: TokenVerifier) -> None:
    principal = await verifier.verify(make_token("alice", "admin", "auditor"))
    assert principal == Principal("alice", frozenset({"admin", "auditor"}))


@pytest.mark.parametrize(
    ("exp", "ends"), [(4102444800, 4102444800.0), ("4102444800", 4102444800.0), (10**400, 2.0**53)]
)
async def test_a_principal_knows_when_its_token_ends(verifier: TokenVerifier, exp: object, ends: float) -> None:
    principal = await verifier.verify(compact({"alg": "HS256"}, good_claims() | {"exp": exp}))
    assert principal.expires_at == ends


async def test_a_hand_made_good_token_holds_so_the_refusals_below_mean_something(
    verifier: TokenVerifier,
) -> None:
    assert (await verifier.verify(compact({"alg": "HS256"}, good_claims()))).id == "alice"


@pytest.mark.parametrize("claim", ["exp", "sub", "iss", "aud"])
async def test_a_token_without_a_required_claim_is_refused(verifier: TokenVerifier, claim: str) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(make_token("alice", **{claim: None}))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "someone-else"},
        {"aud": "another-service"},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\x00b"},
        {"sub": "x" * 256},
        {"roles": "admin"},
        {"roles": [1]},
        {"nbf": 4102444800},
        {"exp": "never"},
        {"exp": 1e400},
    ],
    ids=str,
)
async def test_a_token_with_a_wrong_claim_is_refused(verifier: TokenVerifier, claims: dict[str, object]) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact({"alg": "HS256"}, good_claims() | claims))


async def test_an_expired_token_is_refused_and_told_so(verifier: TokenVerifier) -> None:
    with pytest.raises(InvalidTokenError, match="expired"):
        await verifier.verify(make_token("alice", exp=datetime.now(UTC) - timedelta(minutes=2)))


async def test_a_token_that_expired_within_the_clock_skew_still_holds(verifier: TokenVerifier) -> None:
    token = make_token("alice", exp=datetime.now(UTC) - timedelta(seconds=10))
    assert (await verifier.verify(token)).id == "alice"


async def test_a_token_signed_with_another_secret_is_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact({"alg": "HS256"}, good_claims(), "another-secret-of-more-than-32-bytes"))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS384", "RS256", "", None, ["HS256"]])
async def test_a_token_with_another_algorithm_is_refused(verifier: TokenVerifier, algorithm: object) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact({"alg": algorithm}, good_claims()))


async def test_an_unsigned_token_is_refused(verifier: TokenVerifier) -> None:
    header, claims, _ = compact({"alg": "none"}, good_claims()).split(".")
    with pytest.raises(InvalidTokenError):
        await verifier.verify(f"{header}.{claims}.")


async def test_a_token_with_critical_extensions_is_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(InvalidTokenError, match="critical"):
        await verifier.verify(compact({"alg": "HS256", "crit": ["b64"], "b64": False}, good_claims()))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "é.é.é", "a" * 9000, "eyJhbGciOiJIUzI1NiJ9", "\x00.\x00.\x00"], ids=repr
)
async def test_text_that_is_no_token_is_refused(verifier: TokenVerifier, text: str) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(text)


@pytest.mark.parametrize("payload", [[], "text", 7, None], ids=repr)
async def test_claims_that_are_no_object_are_refused(verifier: TokenVerifier, payload: object) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact({"alg": "HS256"}, payload))


@pytest.mark.parametrize("header", [[], "HS256", {"alg": "HS256", "kid": 7}], ids=repr)
async def test_a_malformed_header_is_refused(verifier: TokenVerifier, header: object) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact(header, good_claims()))
