"""Tokens and keys of the real `better-auth`: live where Node is present, and as they were recorded, everywhere.

The ids of the tests say which of the two ran; without Node the live ones are skipped and say so.
"""

from dataclasses import replace

import httpx2
import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse
from tests.identity.better_auth.provider import ALGORITHMS, Answers, asked, node, recorded, running

from chassis.identity import Principal
from chassis.identity.compact import read_object
from chassis.identity.jwks import JwksKeys
from chassis.identity.tokens import InvalidTokenError, TokenVerifier
from chassis.testing import listening


def live(algorithm: str) -> Answers:
    if node() is None:
        pytest.skip("no Node here: ONLY THE RECORDING of better-auth was tested, not the package itself")
    with running(algorithm) as url:
        return asked(url)


@pytest.fixture(scope="module", params=[f"{how}-{name}" for how in ("live", "recorded") for name in ALGORITHMS])
def answers(request: pytest.FixtureRequest) -> Answers:
    how, algorithm = request.param.split("-")
    return live(algorithm) if how == "live" else recorded(algorithm)


async def principal_of(answers: Answers, token: str, *, later: float = 0) -> Principal:
    """Verify with the keys behind a URL, by the settings of docs/identity.md, at the time of the recording."""
    app = FastAPI()
    app.add_api_route("/api/auth/jwks", lambda: JSONResponse(answers.jwks))
    async with listening(app) as url, httpx2.AsyncClient() as client:
        keys = JwksKeys(f"{url}/api/auth/jwks", client)
        verifier = TokenVerifier(
            keys,
            issuer=answers.issuer,
            audience="taskwire",
            clock_skew=30,
            clock=lambda: answers.at + later,
        )
        return await verifier.verify(token)


async def test_its_token_is_the_user_without_roles_until_it_gives_some(answers: Answers) -> None:
    assert await principal_of(answers, answers.token) == Principal(answers.subject)
    assert await principal_of(answers, answers.promoted) == Principal(answers.subject, frozenset({"auditor"}))


async def test_after_a_rotation_both_keys_hold(answers: Answers) -> None:
    assert len(answers.jwks["keys"]) == 2
    old, new = (read_object(token.split(".")[0])["kid"] for token in (answers.token, answers.rotated))
    assert old != new
    assert (await principal_of(answers, answers.rotated)).id == answers.subject
    only_new = replace(answers, jwks={"keys": [key for key in answers.jwks["keys"] if key["kid"] == new]})
    with pytest.raises(InvalidTokenError, match="unknown key"):
        await principal_of(only_new, answers.token)


async def test_its_token_ends_after_a_quarter_of_an_hour(answers: Answers) -> None:
    assert (await principal_of(answers, answers.token, later=925)).expires_at == answers.at + 900
    with pytest.raises(InvalidTokenError, match="expired"):
        await principal_of(answers, answers.token, later=935)


async def test_its_token_says_what_the_page_says(answers: Answers) -> None:
    claims = read_object(answers.token.split(".")[1])
    assert set(claims) == {"sub", "iss", "aud", "iat", "exp", "roles"}
    assert (claims["iss"], claims["aud"]) == (answers.issuer, "taskwire")


async def test_its_token_is_refused_where_another_issuer_is_expected(answers: Answers) -> None:
    with pytest.raises(InvalidTokenError):
        await principal_of(replace(answers, issuer="https://elsewhere.example"), answers.token)
