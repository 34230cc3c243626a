"""What is logged by mistake is masked: secrets the service knows, and what looks like one."""

import io
import json
import logging
import secrets
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from jose import jwt
from pydantic import HttpUrl, PostgresDsn, SecretBytes, SecretStr

from chassis.logging import configure_logging, get_logger
from chassis.secrecy import REDACTED, Redaction, secret_values, weakness

KNOWN = 'kn0wn "secret" \u00e9 with\\all/that+is=escaped'
JWT = jwt.encode({"sub": "alice"}, secrets.token_urlsafe(48))


@pytest.fixture
def written() -> Iterator[Callable[[], str]]:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure_logging(service="test-service", level="INFO", stream=stream, secrets=[KNOWN, "s3"])
    yield stream.getvalue
    root.handlers[:] = handlers
    root.setLevel(level)


def by_word(secret: str) -> None:
    get_logger("one").info(f"it is {secret}!")


def by_field(secret: str) -> None:
    get_logger("two").info("said", nested={"deep": ["and", {"deeper": secret}]})


def by_field_name(secret: str) -> None:
    get_logger("three").info("said", **{secret: 1})


def by_library(secret: str) -> None:
    logging.getLogger("library").warning("it is %s", secret)


def by_exception(secret: str) -> None:
    try:
        int(f"{secret} is no number")
    except ValueError:
        get_logger("four").exception("failed")


WAYS = [by_word, by_field, by_field_name, by_library, by_exception]


@pytest.mark.parametrize("log", WAYS)
@pytest.mark.parametrize(
    "secret",
    [
        KNOWN,
        f"Authorization: Bearer {secrets.token_urlsafe(24)}",
        "authorization: basic YWxhZGRpbjpvcGVuc2VzYW1l",
        JWT,
        f"/api/v1/calendar/twcal_{secrets.token_urlsafe(32)}.ics",
        f"postgresql://task_api:{secrets.token_urlsafe(16)}@127.0.0.1:5432/task_api",
    ],
    ids=["known", "bearer", "basic", "jwt", "feed", "address"],  # some are made at random in each process
)
def test_a_secret_is_masked_however_it_gets_into_a_line(
    written: Callable[[], str], log: Callable[[str], None], secret: str
) -> None:
    log(secret)
    (line,) = written().splitlines()
    json.loads(line)
    assert REDACTED in line
    core = secret.rsplit(" ", maxsplit=1)[-1].removeprefix("/api/v1/calendar/twcal_").removesuffix(".ics")
    core = core.removeprefix("postgresql://task_api:").partition("@")[0]
    assert core not in line
    assert json.dumps(core)[1:-1] not in line


@pytest.mark.parametrize(
    "harmless",
    [
        "Bearer tokens are checked",
        "basic facts",
        "the s3 bucket",  # too short to be masked, although it was named as a secret
        "http://127.0.0.1:8000/api/v1/tasks?at=12:30@home",
        "postgresql://127.0.0.1:5432/task_api",
        "task-api listens at 127.0.0.1:8000",
        "01a1fbfc-1054-7165-bf9a-d41f7bc8663b",
    ],
)
def test_what_is_no_secret_is_written_as_it_is(written: Callable[[], str], harmless: str) -> None:
    get_logger("one").info(harmless)
    assert json.loads(written())["event"] == harmless


def test_a_secret_that_another_one_begins_with_leaves_nothing_of_it() -> None:
    assert Redaction(["first-secret", "first-secret-and-more"]).mask("first-secret-and-more.") == f"{REDACTED}."


def test_secrets_are_found_in_settings_of_every_shape() -> None:
    deep = {"a": [SecretStr("one"), (SecretBytes(b"two"),)], "b": {"c": SecretStr("three")}}
    assert sorted(secret_values(deep)) == ["one", "three", "two"]
    slash, word = "a/b", "pw"
    addresses = [
        PostgresDsn(f"postgresql://u:{quote(slash, safe='')}@h/d"),
        HttpUrl(f"https://u:{word}@h/"),
        HttpUrl("https://h/"),
    ]
    assert list(secret_values(addresses)) == [slash, word]
    assert list(secret_values(["no secret", 7, None])) == []


def test_what_is_made_at_random_is_strong() -> None:
    for _ in range(200):
        assert weakness(secrets.token_urlsafe(24)) is None
        assert weakness(secrets.token_hex(16)) is None
