"""A secret in a log is found, told with its place, and not repeated."""

from pathlib import Path

import pytest

from devstack.leaks import LeakedSecretsError, find, find_in_logs

SECRETS = {
    "pass-word-of-the-database": "the password",
    "pass-word-of": "another one",
    "p\u00e4ss, word!": "an odd one",
    "0123456789abcdef0": "a long one",
}
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln"
OURS = "twcal_abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("written", "what", "around"),
    [
        ("to pass-word-of-the-database!", "the password", "to […]!"),
        ("pass-word-of it", "another one", "[…] it"),
        ("/v1/0123456789abcdef0/x", "a long one", "/v1/[…]/x"),
        ("a p\u00e4ss, word! too", "an odd one", "a […] too"),
        (f"said {JWT}", "a JWT", "said […].c2ln"),
        ('"authorization": "bearer 0123456789abcdef"', "a bearer token", '"authorization": "[…]"'),
        (f"GET /calendar/{OURS}.ics", "a token of ours", "GET /calendar/[…].ics"),
    ],
)
def test_it_is_told_with_its_line_and_masked(written: str, what: str, around: str) -> None:
    (leak,) = find("task-api", f"one\ntwo\n{written}\nfour".encode(), SECRETS)
    assert leak.told() == f"task-api, line 3: {what}: {around}"


def test_two_secrets_on_a_line_are_both_told_and_neither_beside_the_other() -> None:
    leaks = find("kafka", f"{JWT} pass-word-of-the-database {JWT}".encode(), SECRETS)
    assert sorted(leak.what for leak in leaks) == ["a JWT", "the password"]
    assert not [leak for leak in leaks if "pass-word" in leak.around or "eyJ" in leak.around]


def test_all_logs_are_read_and_what_is_no_secret_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres.log").write_bytes(b"\xff pass-word-of-the-database\n")
    (tmp_path / "daprd.log").write_text("Bearer tokens, twcal_, eyJ and 01a1fbfc-1054-7165-bf9a-d41f7bc8663b\n")
    leaks = find_in_logs(sorted(tmp_path.glob("*.log")), SECRETS)
    assert [(leak.place, leak.line) for leak in leaks] == [("postgres", 1)]
    assert "postgres, line 1" in str(LeakedSecretsError(leaks))
