"""Which tokens hold and which do not."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from starlette.types import Scope

from chassis.identity import Principal
from chassis.identity.tokens import InvalidTokenError, SharedSecret, TokenVerifier
from chassis.testing import AUDIENCE, HS256_SECRET, ISSUER, listening, make_token


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
        {"sub": "a\ud800b"},  # half of a character, which no database takes
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


async def test_a_token_that_expired_within_the_clock_skew_still_holds() -> None:
    now = datetime.now(UTC)
    verifier = TokenVerifier(
        SharedSecret(HS256_SECRET), issuer=ISSUER, audience=AUDIENCE, clock_skew=30, clock=now.timestamp
    )
    assert (await verifier.verify(make_token("alice", exp=now - timedelta(seconds=29)))).id == "alice"
    with pytest.raises(InvalidTokenError, match="expired"):
        await verifier.verify(make_token("alice", exp=now - timedelta(seconds=31)))


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


def raw(*parts: str) -> str:
    """Sign parts that are JSON as it is written here."""
    signed = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    signature = hmac.new(HS256_SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


HEADER = '{"alg":"HS256"}'


async def test_a_member_that_is_there_twice_makes_it_no_token(verifier: TokenVerifier) -> None:
    claims = json.dumps(good_claims())
    assert (await verifier.verify(raw(HEADER, claims))).id == "alice"
    for header, payload in (
        (HEADER, '{"sub":"bob",' + claims[1:]),
        (HEADER, '{"x":{"a":1,"a":2},' + claims[1:]),
        ('{"alg":"none","alg":"HS256"}', claims),
        (HEADER, '{"x":NaN,' + claims[1:]),
        (HEADER, "\ufeff" + claims),
    ):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(raw(header, payload))


async def test_a_token_has_one_spelling_only(verifier: TokenVerifier) -> None:
    token = compact({"alg": "HS256"}, good_claims())
    header, claims, signature = token.split(".")
    # 32 bytes are 43 characters, of which the last has two bits that mean nothing.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]
    assert base64.urlsafe_b64decode(twin + "=") == base64.urlsafe_b64decode(signature + "=")
    for spelling in (twin, signature + "=", signature[:9] + "!" + signature[9:], signature[:9] + "\n" + signature[9:]):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(f"{header}.{claims}.{spelling}")
    with pytest.raises(InvalidTokenError):
        await verifier.verify(f"{header}=.{claims}.{signature}")


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_a_header_that_says_where_a_key_is_makes_no_request(verifier: TokenVerifier, name: str) -> None:
    asked = []

    async def note(scope: Scope, *_: object) -> None:
        asked.append(scope["path"])

    async with listening(note) as url:
        header = {"alg": "HS256", name: url}
        assert (await verifier.verify(compact(header, good_claims()))).id == "alice"
        forged = compact(header, good_claims(), "the-secret-that-is-served-at-that-address")
        with pytest.raises(InvalidTokenError):
            await verifier.verify(forged)
    assert asked == []


async def test_a_key_within_the_token_is_not_used(verifier: TokenVerifier) -> None:
    secret = "a-secret-that-came-within-the-token-itself"
    key = {"kty": "oct", "k": base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")}
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact({"alg": "HS256", "jwk": key}, good_claims(), secret))


@pytest.mark.parametrize(
    ("kind", "holds"),
    [("JWT", True), ("jwt", True), ("at+jwt", True), ("application/at+jwt", True)]
    + [(kind, False) for kind in ("logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "", None, 7)],
)
async def test_the_type_of_a_token_says_what_it_is_for(verifier: TokenVerifier, kind: object, holds: bool) -> None:
    token = compact({"alg": "HS256", "typ": kind}, good_claims())
    if holds:
        assert (await verifier.verify(token)).id == "alice"
    else:
        with pytest.raises(InvalidTokenError, match="type"):
            await verifier.verify(token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_of_the_future_is_refused_but_for_the_clock_skew(claim: str) -> None:
    verifier = TokenVerifier(
        SharedSecret(HS256_SECRET), issuer=ISSUER, audience=AUDIENCE, clock_skew=30, clock=lambda: 1_000_000.0
    )
    claims = good_claims() | {"exp": 1_000_600}
    assert (await verifier.verify(compact({"alg": "HS256"}, claims | {claim: 1_000_030}))).id == "alice"
    with pytest.raises(InvalidTokenError, match="not valid yet"):
        await verifier.verify(compact({"alg": "HS256"}, claims | {claim: 1_000_031}))
    with pytest.raises(InvalidTokenError, match="malformed"):
        await verifier.verify(compact({"alg": "HS256"}, claims | {claim: "tomorrow"}))


@pytest.mark.parametrize("payload", [[], "text", 7, None], ids=repr)
async def test_claims_that_are_no_object_are_refused(verifier: TokenVerifier, payload: object) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact({"alg": "HS256"}, payload))


@pytest.mark.parametrize("header", [[], "HS256", {"alg": "HS256", "kid": 7}], ids=repr)
async def test_a_malformed_header_is_refused(verifier: TokenVerifier, header: object) -> None:
    with pytest.raises(InvalidTokenError):
        await verifier.verify(compact(header, good_claims()))
