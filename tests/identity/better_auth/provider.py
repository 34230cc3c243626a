"""Runs the real better-auth where Node is present, and keeps what it answered once for where it is not."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from chassis.identity.compact import read_object

HERE: Final = Path(__file__).parent
RECORDING: Final = HERE / "recorded.json"
ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
_TOKENS: Final = ("token", "promoted", "rotated")
_INSTALLED: Final = ("package.json", "package-lock.json", ".npmrc", "server.mjs")


@dataclass(frozen=True)
class Answers:
    """What better-auth answered to one user.

    Attributes:
        at: Unix time of the tokens.
        issuer: Its base URL.
        subject: The user's id.
        token: At first; `promoted` after the user became an auditor, `rotated` after a new key.
        jwks: The document after that, with both keys.
    """

    at: int
    issuer: str
    subject: str
    token: str
    promoted: str
    rotated: str
    jwks: dict[str, Any]


def recorded(algorithm: str) -> Answers:
    """Give what was answered when `python -m tests.identity.better_auth.record` was run."""
    kept = json.loads(RECORDING.read_text())[algorithm]
    return Answers(**kept | {name: ".".join(kept[name]) for name in _TOKENS})


def record(answers: dict[str, Answers]) -> None:
    """Keep what was answered; tokens by their parts, as one in one piece looks like a secret, which it no longer is."""
    kept = {name: asdict(one) for name, one in answers.items()}
    for one in kept.values():
        one |= {name: one[name].split(".") for name in _TOKENS}
    RECORDING.write_text(json.dumps(kept, indent=1) + "\n")


def node() -> str | None:
    """Give the version of Node, if it and npm are there."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        return None
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def installed() -> Path:
    """Install what the lock file names, once, outside of the tree."""
    cache = Path(os.environ.get("TASKWIRE_CACHE", Path.home() / ".cache" / "taskwire"))
    content = b"".join((HERE / name).read_bytes() for name in _INSTALLED)
    directory = cache / f"better-auth-{hashlib.sha256(content).hexdigest()[:16]}"
    if not directory.exists():
        making = directory.with_suffix(f".{os.getpid()}")
        making.mkdir(parents=True)
        for name in _INSTALLED:
            shutil.copy(HERE / name, making)
        npm = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(npm, cwd=making, check=True, timeout=300)
        try:
            making.rename(directory)
        except OSError:  # another process was faster
            shutil.rmtree(making)
    return directory


@contextmanager
def running(algorithm: str) -> Iterator[str]:
    """Run better-auth and give its address."""
    command = ["node", "server.mjs", algorithm]
    with subprocess.Popen(
        command, cwd=installed(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()  # which ends it


def asked(url: str) -> Answers:
    """Sign a user up and ask for tokens, as a browser would."""
    with httpx2.Client(base_url=url, headers={"Origin": url}, timeout=90) as browser:
        signed_up = browser.post(
            "/api/auth/sign-up/email",
            json={"email": "alice@example.com", "password": "correct horse battery", "name": "Alice"},
        )
        signed_up.raise_for_status()

        def token() -> str:
            return str(browser.get("/api/auth/token").raise_for_status().json()["token"])

        first = token()
        browser.post("/promote").raise_for_status()
        promoted = token()
        browser.post("/rotate").raise_for_status()
        rotated = token()
        jwks = browser.get("/api/auth/jwks").raise_for_status().json()
        return Answers(_issued_at(first), url, signed_up.json()["user"]["id"], first, promoted, rotated, jwks)


def _issued_at(token: str) -> int:
    return int(read_object(token.split(".")[1])["iat"])
