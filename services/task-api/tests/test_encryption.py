"""Encrypted columns: keys with ids, their rotation, and errors that name a key and never show one."""

import asyncio
import base64
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE
from typing import Any

import asyncpg
import pytest

from chassis.testing import PATIENCE, bearer, serving, settings_for
from chassis.testing_environment import environment_for
from devstack.polling import within
from task_api.app import create_app
from task_api.encryption import DecryptionError, InvalidKeysError, Keyring, UnknownKeyError
from task_api.settings import TaskApiSettings

OLD, NEW = (f"{name}:{base64.b64encode(os.urandom(32)).decode()}" for name in ("old-2025", "new-2026"))
PLACE = ("profiles", "email", "alice")


def test_what_was_encrypted_is_decrypted_and_looks_different_each_time() -> None:
    keys = Keyring.parse(NEW)
    first, second = keys.encrypt("ä@example.org", *PLACE), keys.encrypt("ä@example.org", *PLACE)
    assert first != second
    assert b"example" not in first
    assert keys.decrypt(first, *PLACE) == keys.decrypt(second, *PLACE) == "ä@example.org"


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    before = Keyring.parse(OLD).encrypt("x", *PLACE)
    both = Keyring.parse(f"{NEW},{OLD}")
    assert both.decrypt(before, *PLACE) == "x"
    assert Keyring.parse(NEW).decrypt(both.encrypt("x", *PLACE), *PLACE) == "x"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UnknownKeyError, match=r"profiles.email is encrypted with the key 'old-2025', which is not"):
        Keyring.parse(NEW).decrypt(Keyring.parse(OLD).encrypt("x", *PLACE), *PLACE)


def test_another_key_under_the_same_id_is_named_and_not_shown() -> None:
    other = f"new-2026:{base64.b64encode(os.urandom(32)).decode()}"
    with pytest.raises(DecryptionError, match="cannot be decrypted with the key 'new-2026'") as error:
        Keyring.parse(other).decrypt(Keyring.parse(NEW).encrypt("x", *PLACE), *PLACE)
    assert other.partition(":")[2] not in str(error.value)


@pytest.mark.parametrize(
    "place", [("profiles", "name", "alice"), ("profiles", "email", "bob"), ("webhooks", "email", "alice")]
)
def test_a_ciphertext_opens_in_no_other_place(place: tuple[str, ...]) -> None:
    keys = Keyring.parse(NEW)
    with pytest.raises(DecryptionError):
        keys.decrypt(keys.encrypt("x", *PLACE), *place)


def test_no_bit_of_a_ciphertext_can_be_changed() -> None:
    keys = Keyring.parse(NEW)
    whole = keys.encrypt("x", *PLACE)
    for place in range(len(whole)):
        with pytest.raises(DecryptionError):
            keys.decrypt(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], *PLACE)
        with pytest.raises(DecryptionError):
            keys.decrypt(whole[:place], *PLACE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "number 1 is not of the form"),
        ("nocolon", "number 1 is not of the form"),
        (f"{NEW},", "number 2 is not of the form"),
        (f"{NEW},{NEW}", "the key id 'new-2026' is there twice"),
        ("a b:QUJD", "number 1 is not of the form"),
        ("weak:QUJD", "the key 'weak' has 3 bytes and not 32"),
        (f"weak:{base64.b64encode(b'0' * 32).decode()}", "the key 'weak' is not random"),
        ("odd:%%%", "the key 'odd' is not base64"),
    ],
    ids=range(8),  # not the keys, which are random: every process that runs tests must call them the same
)
def test_keys_that_cannot_be_used_are_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(InvalidKeysError, match=why):
        Keyring.parse(text)


def test_outside_development_keys_are_required_and_no_weak_one_is_taken(production: dict[str, Any]) -> None:
    assert settings_for(TaskApiSettings, **production | {"encryption_keys": NEW}).keyring.current == "new-2026"
    with pytest.raises(ValueError, match="set TASKWIRE_ENCRYPTION_KEYS"):
        settings_for(TaskApiSettings, **production | {"encryption_keys": None})
    short = f"weak:{base64.b64encode(secrets.token_bytes(20)).decode()}"
    with pytest.raises(ValueError, match="TASKWIRE_ENCRYPTION_KEYS cannot be used: the key 'weak' has 20 bytes"):
        settings_for(TaskApiSettings, **production | {"encryption_keys": short})


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return os.environ | environment_for(database_url, TASKWIRE_ENCRYPTION_KEYS=f"{NEW},{OLD}")


async def under(connection: "asyncpg.Connection[asyncpg.Record]", key_id: str) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM profiles WHERE key_id = $1", key_id))


async def test_reencrypting_that_is_killed_goes_on_and_ends_with_everything_under_the_first_key(
    database_url: str, environment: dict[str, str]
) -> None:
    keys, people = Keyring.parse(OLD), 3000
    connection = await asyncpg.connect(database_url)
    rows = [(f"u{n}", keys.encrypt(f"u{n}@example.org", "profiles", "email", f"u{n}")) for n in range(people)]
    await connection.executemany(
        "INSERT INTO profiles (user_id, email, time_zone, locale, preferences, key_id, version, created_at, updated_at)"
        " VALUES ($1, $2, 'UTC', 'en', '{}', 'old-2025', 7, now(), now())",
        rows,
    )
    command = (sys.executable, "-m", "task_api", "reencrypt")

    async def begun() -> bool:
        return await under(connection, "new-2026") > 0

    async with connection.transaction():  # half of them are held, so it is not through before it is killed
        await connection.execute("SELECT FROM profiles WHERE substr(user_id, 2)::int % 2 = 0 FOR UPDATE")
        first = await asyncio.create_subprocess_exec(*command, env=environment)
        assert await within(PATIENCE, begun, 0.005)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    left = await under(connection, "old-2025")
    again = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(2)]
    assert [await process.wait() for process in again] == [0, 0]
    assert (await under(connection, "old-2025"), await under(connection, "new-2026")) == (0, people)
    assert people // 2 <= left < people
    app = create_app(settings_for(TaskApiSettings, database_url, encryption_keys=NEW))
    async with serving(app) as client:
        shown = (await client.get("/api/v1/users/me", headers=bearer("u2999"))).json()
    assert (shown["email"], shown["version"]) == ("u2999@example.org", 7)
    await connection.close()


async def test_reencrypting_without_the_old_key_says_which_one_is_missing(
    database_url: str, environment: dict[str, str]
) -> None:
    connection = await asyncpg.connect(database_url)
    sealed = Keyring.parse(OLD).encrypt("x", "profiles", "email", "alice")
    await connection.execute(
        "INSERT INTO profiles (user_id, email, time_zone, locale, preferences, key_id, version, created_at, updated_at)"
        " VALUES ('alice', $1, 'UTC', 'en', '{}', 'old-2025', 1, now(), now())",
        sealed,
    )
    await connection.close()
    command = (sys.executable, "-m", "task_api", "reencrypt")
    without = environment | {"TASKWIRE_ENCRYPTION_KEYS": NEW}
    process = await asyncio.create_subprocess_exec(*command, env=without, stdout=PIPE, stderr=PIPE)
    said = b"".join(await process.communicate())
    assert process.returncode == 1
    assert b"profiles.email is encrypted with the key 'old-2025', which is not in the settings" in said
    assert NEW.partition(":")[2].encode() not in said
