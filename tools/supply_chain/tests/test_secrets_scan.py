"""Secrets of many kinds are found wherever they are committed, and told without being repeated."""

import secrets
import string
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwt

from supply_chain.exceptions import Accepted, Exceptions
from supply_chain.secrets_scan import ScanError, judge, scan_history, scan_tracked


def some(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def private_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


UPPER = string.ascii_uppercase + "234567"
# Made at random in each run, and their beginnings put together here: this file is scanned too.
KINDS: dict[str, Callable[[], str]] = {
    "private key": private_key,
    "password in an address": lambda: f"url = 'postgresql://task_api:{some(24)}@db.internal:5432/task_api'",
    "GitHub": lambda: "token = 'gh" + f"p_{some(36)}'",
    "AWS": lambda: f"aws_access_key_id = AKI{'A' + some(16, UPPER)}\naws_secret_access_key = {some(40)}",
    "Slack webhook": lambda: f"https://hooks.slack.com/serv{'ices/'}T{some(10, UPPER)}/B{some(10, UPPER)}/{some(24)}",
    "Stripe": lambda: "key = 'sk_" + f"live_{some(24)}'",
    "JWT": lambda: f"token = '{jwt.encode({'sub': 'alice', 'exp': 1}, some(48))}'",
    "secret of our own": lambda: f"TASKWIRE_AUTH_HS256_SECRET={secrets.token_urlsafe(48)}",
    "token of Dapr": lambda: f"export DAPR_API_TOKEN={secrets.token_urlsafe(32)}",
    "database password": lambda: f"POSTGRES_PASSWORD={secrets.token_urlsafe(24)}",
}


def git(repository: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "README.md").write_text("Nothing secret here.\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "Begin")
    return tmp_path


@pytest.mark.parametrize("name", ["settings.py", ".env", "docs/page.md"])
def test_every_kind_of_secret_is_found_in_what_is_tracked(repository: Path, name: str) -> None:
    missed = []
    for kind, make in KINDS.items():
        file = repository / kind.replace(" ", "-") / name
        file.parent.mkdir(parents=True)
        file.write_text(f"one\n\n{make()}\n")
    git(repository, "add", "--force", ".")
    found = scan_tracked(repository)
    missed = [kind for kind in KINDS if not any(one.path.startswith(f"{kind.replace(' ', '-')}/") for one in found)]
    assert not missed, missed
    told = judge(found, Exceptions([]))
    assert len(told) >= len(KINDS)
    assert not [one for one in found if one.value in " ".join(told)]


def test_what_is_not_tracked_is_not_ours_to_judge(repository: Path) -> None:
    (repository / "untracked.py").write_text(KINDS["GitHub"]())
    assert scan_tracked(repository) == []


def test_what_was_deleted_is_still_in_history(repository: Path) -> None:
    (repository / "key.pem").write_text(KINDS["private key"]())
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "Add")
    git(repository, "rm", "--quiet", "key.pem")
    git(repository, "commit", "--quiet", "-m", "Delete")
    assert scan_tracked(repository) == []
    found = scan_history(repository)
    assert {one.path for one in found} == {"key.pem"}
    assert all(one.commit in one.told() for one in found)


def test_a_comment_in_the_file_does_not_hide_a_secret(repository: Path) -> None:
    (repository / "a.py").write_text(f"{KINDS['GitHub']()}  # kingfisher:ignore\n")
    git(repository, "add", ".")
    assert {one.path for one in scan_tracked(repository)} == {"a.py"}


def test_what_is_accepted_is_accepted_for_that_value_in_that_file_only(repository: Path) -> None:
    word = "hunter2"
    for name in ("a.py", "b.py"):
        (repository / name).write_text(f"url = 'postgresql://task_api:{word}@db.internal/task_api'\n")
    git(repository, "add", ".")
    accepted = Exceptions([Accepted("a.py", word, "x"), Accepted("c.py", word, "x")])
    assert [one.partition(":")[0] for one in judge(scan_tracked(repository), accepted)] == ["b.py"]
    (stale,) = accepted.stale()
    assert stale.startswith("c.py: hunter2 is accepted, but not found any more")


def test_without_git_it_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="git ended with"):
        scan_tracked(tmp_path)
