"""Tokens that an attacker makes, sent to each of the three services, whose identity provider has keys of all kinds."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import JsonValue
from tests.security.forger import Json, KeyPair, Provider, Signer, assemble, b64, claims, token

from audit_worker.app import create_app as create_audit_worker
from audit_worker.settings import AuditWorkerSettings
from chassis.migrations import upgrade
from chassis.testing import AUDIENCE, ISSUER, listening, serving, settings_for
from devstack.throwaway import DatabaseFactory
from notifier.app import create_app as create_notifier
from notifier.settings import NotifierSettings
from task_api.app import create_app as create_task_api
from task_api.settings import TaskApiSettings

SERVICES: Final = {
    "task-api": "/api/v1/tasks",
    "audit-worker": "/api/v1/audit/entries",
    "notifier": "/api/v1/notifications",
}
Forge = Callable[[Provider], str]


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="module")
async def services(provider: Provider, databases: DatabaseFactory) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
    """The three services over fresh databases, which know the keys of the provider and nothing else."""
    async with AsyncExitStack() as until_the_end:
        provider.url = await until_the_end.enter_async_context(listening(provider))
        told: dict[str, object] = {
            "auth_hs256_secret": None,
            "auth_jwks_url": f"{provider.url}/jwks",
            "cursor_secret": "c" * 32,
        }
        told |= {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}

        async def start(package: str, make: Callable[[str], FastAPI]) -> httpx2.AsyncClient:
            fresh = databases.fresh(f"forged_{package}", lambda url: upgrade(package, url))
            return await until_the_end.enter_async_context(
                serving(make(await until_the_end.enter_async_context(fresh)))
            )

        yield {
            "task-api": await start(
                "task_api", lambda url: create_task_api(settings_for(TaskApiSettings, url, **told))
            ),
            "audit-worker": await start(
                "audit_worker", lambda url: create_audit_worker(settings_for(AuditWorkerSettings, url, **told))
            ),
            "notifier": await start(
                "notifier", lambda url: create_notifier(settings_for(NotifierSettings, url, **told))
            ),
        }


def hmac_with(secret: Callable[[Provider], bytes], kid: str, algorithm: str = "HS256") -> Forge:
    """Sign with something public as if it were a shared secret, which is what algorithm confusion is."""
    return lambda them: assemble({"alg": algorithm, "typ": "JWT", "kid": kid}, claims(), Signer(secret(them)))


def with_claims(**changes: JsonValue) -> Forge:
    return lambda t: token(t.ed25519, claims(**changes))


def with_header(**header: JsonValue) -> Forge:
    return lambda t: token(t.ed25519, None, **header)


def stranger_with(**header: JsonValue) -> Forge:
    return lambda them: token(them.stranger, None, **header)


def tampered(them: Provider) -> str:
    header, _, signature = token(them.ed25519).split(".")
    return f"{header}.{b64(json.dumps(claims(sub='admin', roles=['admin'])).encode())}.{signature}"


def flipped(key: Callable[[Provider], KeyPair]) -> Forge:
    def forge(them: Provider) -> str:
        signed, signature = token(key(them)).rsplit(".", 1)
        raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
        raw[0] ^= 1
        return f"{signed}.{b64(bytes(raw))}"

    return forge


def zeroes(algorithm: str, kid: str) -> Forge:
    return lambda _: assemble({"alg": algorithm, "kid": kid}, claims(), lambda _: bytes(64))


def nested(them: Provider) -> str:
    """A good token as the payload of another (RFC 7519, section 5.2, `cty: JWT`)."""
    inner = token(them.ed25519)
    header = b64(json.dumps({"alg": "EdDSA", "kid": "ed-1", "cty": "JWT"}).encode())
    signed = f"{header}.{b64(inner.encode())}"
    return f"{signed}.{b64(them.ed25519.sign(signed.encode()))}"


def json_serialization(them: Provider) -> str:
    protected, payload, signature = token(them.ed25519).split(".")
    return json.dumps({"protected": protected, "payload": payload, "signature": signature})


def own_key(them: Provider) -> Json:
    return {"kty": "OKP", "crv": "Ed25519", "x": str(them.stranger.public_jwk()["x"])}


FORGERIES: Final[dict[str, Forge]] = {
    # no signature at all
    "alg none": lambda _: assemble({"alg": "none", "kid": "ed-1"}, claims(), lambda _: b""),
    "alg None in other letters": lambda _: assemble({"alg": "nOnE", "kid": "ed-1"}, claims(), lambda _: b""),
    "alg none with a signature": lambda t: token(t.ed25519, None, alg="none"),
    "no alg": lambda t: token(t.ed25519, None, alg=None),
    "an empty alg": lambda t: token(t.ed25519, None, alg=""),
    "alg is a list": lambda t: token(t.ed25519, None, alg=["EdDSA"]),
    "the signature cut off": lambda t: token(t.ed25519).rsplit(".", 1)[0] + ".",
    "two parts": lambda t: token(t.ed25519).rsplit(".", 1)[0],
    "four parts": lambda t: token(t.ed25519) + ".e30",
    # a public key as a shared secret
    "HS256 with the RSA key as PEM": hmac_with(lambda them: them.rsa.public_pem(), "rsa-1"),
    "HS256 with the RSA key as PEM without the newline": hmac_with(lambda t: t.rsa.public_pem().strip(), "rsa-1"),
    "HS256 with the EC key as PEM": hmac_with(lambda them: them.ec.public_pem(), "ec-1"),
    "HS256 with the bytes of the Ed25519 key": hmac_with(
        lambda them: base64.urlsafe_b64decode(str(them.ed25519.public_jwk()["x"]) + "="), "ed-1"
    ),
    "HS256 with the JWKS document": hmac_with(lambda them: them.document(), "rsa-1"),
    "HS256 with an empty secret": hmac_with(lambda _: b"", "ed-1"),
    "HS384 with the RSA key": hmac_with(lambda them: them.rsa.public_pem(), "rsa-1", "HS384"),
    # the key of one algorithm with another
    "EdDSA said to be RS256": with_header(alg="RS256"),
    "RS256 under the name of the EC key": lambda them: token(them.rsa, None, kid="ec-1"),
    "ES256 under the name of the RSA key": lambda them: token(them.ec, None, kid="rsa-1"),
    "RS256 said to be PS256": lambda them: token(them.rsa, None, alg="PS256"),
    "RS256 said to be RS512": lambda them: token(them.rsa, None, alg="RS512"),
    "ES256 said to be ES256K": lambda them: token(them.ec, None, alg="ES256K"),
    # a key the provider does not have
    "a stranger's key under a known name": stranger_with(kid="ed-1"),
    "a stranger's key under its own name": stranger_with(),
    "no name of a key": with_header(kid=None),
    "the name is a number": with_header(kid=1),
    "the name is a path": stranger_with(kid="../../../../dev/null"),
    "the name is SQL": stranger_with(kid="ed-1' UNION SELECT 'AAAA' --"),
    "the name is a command": stranger_with(kid="ed-1; curl evil.example"),
    "the name has a NUL": stranger_with(kid="ed-1\x00"),
    "the name in other letters": stranger_with(kid="ED-1"),
    "the key itself in the header": lambda them: token(them.stranger, None, kid="ed-1", jwk=own_key(them)),
    "the key at an address (jku)": lambda them: token(them.stranger, None, jku=f"{them.url}/evil.json"),
    "a certificate at an address (x5u)": lambda them: token(
        them.stranger, None, kid="ed-1", x5u=f"{them.url}/evil.pem"
    ),
    "a certificate in the header (x5c)": stranger_with(kid="ed-1", x5c=["MIIB"]),
    "two keys swapped": lambda them: assemble(
        {"alg": "ES256", "kid": "ec-1"}, claims(), KeyPair("ec-1", "ES256", them.stranger.private).sign
    ),
    # changed after it was signed
    "other claims under the same signature": tampered,
    "an Ed25519 signature with one bit flipped": flipped(lambda them: them.ed25519),
    "an EC signature with one bit flipped": flipped(lambda them: them.ec),
    "an RSA signature with one bit flipped": flipped(lambda them: them.rsa),
    "an EC signature of zeroes": lambda _: assemble({"alg": "ES256", "kid": "ec-1"}, claims(), lambda _: bytes(64)),
    "an Ed25519 signature of zeroes": lambda _: assemble(
        {"alg": "EdDSA", "kid": "ed-1"}, claims(), lambda _: bytes(64)
    ),
    # signed by the provider, and not for us or not for now
    "another audience": with_claims(aud="another-service"),
    "an audience that only begins like ours": with_claims(aud=f"{AUDIENCE}.evil.example"),
    "audiences without ours": with_claims(aud=["a", "b"]),
    "no audience": with_claims(aud=None),
    "another issuer": with_claims(iss="https://evil.example"),
    "our issuer with a slash": with_claims(iss=f"{ISSUER}/"),
    "issuers": with_claims(iss=[ISSUER]),
    "no issuer": with_claims(iss=None),
    "expired": with_claims(exp=1),
    "no expiry": with_claims(exp=None),
    "the expiry is a word": with_claims(exp="never"),
    "the expiry is infinite": with_claims(exp=float("inf")),
    "not valid before tomorrow": with_claims(nbf=2**40),
    "no subject": with_claims(sub=None),
    "an empty subject": with_claims(sub=""),
    "the subject is a number": with_claims(sub=1),
    "the subject is a list": with_claims(sub=["alice"]),
    "the subject is an object": with_claims(sub={"id": "alice"}),
    "the subject has a space": with_claims(sub="alice bob"),
    "the subject has a NUL": with_claims(sub="alice\x00"),
    "the subject is a header": with_claims(sub="alice\r\nX-Admin: 1"),
    "the subject is too long": with_claims(sub="a" * 256),
    "roles in one word": with_claims(roles="admin"),
    "roles that are no words": with_claims(roles=[{"name": "admin"}]),
    "critical extensions": with_header(crit=["exp"], exp=1),
    "an unencoded payload (b64)": with_header(crit=["b64"], b64=False),
    # no JWT
    "nested": nested,
    "as JSON": json_serialization,
    "encrypted": lambda _: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA",
    "not base64": lambda _: "ä.ö.ü",
    "dots": lambda _: "..",
    "one dot": lambda _: ".",
    "deeply nested JSON": lambda them: f"{b64(b'[' * 4000)}.{token(them.ed25519).split('.', 1)[1]}",
    "very long": lambda t: token(t.ed25519, claims(more="x" * 8_000)),  # longer ones are a 431
    "the header twice": lambda them: f"{token(them.ed25519)}, Bearer {token(them.ed25519)}",
}


@pytest.mark.parametrize("kind", ["ed25519", "ec", "rsa"])
@pytest.mark.parametrize("name", SERVICES)
async def test_good_tokens_hold_so_the_refusals_below_mean_something(
    services: dict[str, httpx2.AsyncClient], provider: Provider, name: str, kind: str
) -> None:
    good = token(getattr(provider, kind), claims(sub="alice"))
    response = await services[name].get(SERVICES[name], headers={"Authorization": f"Bearer {good}"})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("name", SERVICES)
async def test_a_forged_token_is_refused(
    services: dict[str, httpx2.AsyncClient], provider: Provider, name: str, forgery: str
) -> None:
    forged = FORGERIES[forgery](provider)
    header = f"Bearer {forged}".encode()
    response = await services[name].get(SERVICES[name], headers=[(b"Authorization", header)])
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert len(forged) < len("eyJ") or forged not in response.text


async def test_no_token_makes_a_service_fetch_anything_but_the_keys_of_its_provider(
    services: dict[str, httpx2.AsyncClient], provider: Provider
) -> None:
    lures = {"jku": f"{provider.url}/evil.json", "x5u": f"{provider.url}/evil.pem"}
    for kid in (provider.ed25519.kid, "unknown"):
        lure = token(provider.stranger, None, kid=kid, **lures)
        for name, client in services.items():
            response = await client.get(SERVICES[name], headers={"Authorization": f"Bearer {lure}"})
            assert response.status_code == 401
    assert set(provider.asked) == {"/jwks"}
