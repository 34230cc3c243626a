from pathlib import Path

import pytest

from devstack.credentials import Credentials, write_private
from devstack.failures import ProvisionError


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"

    made = Credentials.ensure(file, ["task_api"])

    assert Credentials.ensure(file, ["task_api"]) == made
    assert Credentials.load(file) == made


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"

    Credentials.ensure(file, ["task_api"])

    assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_in_them_is_guessable_or_shared(tmp_path: Path) -> None:
    one = Credentials.ensure(tmp_path / "one.json", ["task_api", "notifier"])
    two = Credentials.ensure(tmp_path / "two.json", ["task_api", "notifier"])

    everything = [one.auth_secret, one.postgres_password, *one.role_passwords.values()]
    everything += [two.auth_secret, two.postgres_password, *two.role_passwords.values()]
    assert len(set(everything)) == len(everything)
    assert len(one.auth_secret) >= 32
    assert all(len(secret) >= 24 for secret in everything)


def test_a_new_service_gets_a_password_and_the_others_keep_theirs(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    before = Credentials.ensure(file, ["task_api"])

    after = Credentials.ensure(file, ["task_api", "notifier"])

    assert after.role_passwords["task_api"] == before.role_passwords["task_api"]
    assert after.auth_secret == before.auth_secret
    assert after.role_passwords["notifier"]


def test_a_home_that_was_never_used_has_none(tmp_path: Path) -> None:
    assert Credentials.load(tmp_path / "credentials.json") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"auth_secret": "x"}'])
def test_a_damaged_file_is_reported_and_not_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(content)

    with pytest.raises(ProvisionError, match="credentials.json is damaged.*make reset"):
        Credentials.ensure(file, ["task_api"])

    assert file.read_text() == content


def test_a_private_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text("old")
    file.chmod(0o644)

    write_private(file, "new")

    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
