import time

import pytest
from jose import JWTError, jwt

from devstack.tokens import make_token

SECRET = "s" * 48


def test_a_token_says_who_acts_and_for_how_long() -> None:
    claims = jwt.decode(
        make_token(SECRET, "alice", ["admin"]), SECRET, ["HS256"], audience="taskwire", issuer="taskwire-dev"
    )

    assert (claims["sub"], claims["roles"]) == ("alice", ["admin"])
    assert claims["exp"] - claims["iat"] == 12 * 3600
    assert abs(claims["iat"] - time.time()) < 60


def test_a_token_of_another_stack_is_worth_nothing() -> None:
    with pytest.raises(JWTError):
        jwt.decode(make_token("another secret of another home", "alice"), SECRET, ["HS256"], audience="taskwire")
