"""Secrets in files: what Kingfisher finds in all that is tracked, or in all that ever was."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from supply_chain.exceptions import Exceptions

_SCAN_TIMEOUT: Final = 600
_GIT_TIMEOUT: Final = 120
_FOUND: Final = 200
"""Kingfisher's exit code when it has found something; 0 when not."""
# It would try what it finds at the provider it seems to belong to, and look for a newer self.
_NO_NETWORK: Final = ("--no-validate", "--no-update-check")
# One place for what is accepted: no comments in the files, and no threshold below which something is not told.
_RULES: Final = Path(__file__).resolve().parents[2] / "rules.yml"
_ALL: Final = ("--no-ignore", "--confidence", "low", "--no-dedup", "--rules-path", str(_RULES))


class ScanError(Exception):
    """The scan could not be done."""


@dataclass(frozen=True)
class Found:
    """Something that looks like a secret; the secret itself is never told."""

    path: str
    line: int
    rule: str
    value: str = field(repr=False)
    commit: str = ""

    def told(self) -> str:
        """Say where it is."""
        return f"{self.path}:{self.line}: {self.rule}{f' in {self.commit}' if self.commit else ''}"


def scan_tracked(repository: Path) -> list[Found]:
    """Scan the files that git tracks, as they are now.

    Raises:
        ScanError: This is no git checkout, or the scanner failed.
    """
    listed = _run(["git", "ls-files", "-z"], repository, _GIT_TIMEOUT).split("\0")
    files = sorted({name for name in listed if name and (repository / name).is_file()})
    return _scan(files, repository)


def scan_history(repository: Path) -> list[Found]:
    """Scan every version of every file in every commit of every branch.

    Raises:
        ScanError: This is no git checkout, or the scanner failed.
    """
    with tempfile.TemporaryDirectory(prefix="taskwire-history-") as directory:
        copy = Path(directory) / "history.git"
        # Not local: that would bring what no commit has, too.
        _run(["git", "clone", "--quiet", "--mirror", "--no-local", ".", str(copy)], repository, _GIT_TIMEOUT)
        return _scan([str(copy), "--git-history", "full"], repository)


def judge(found: Sequence[Found], *accepted: Exceptions) -> list[str]:
    """Say where the secrets are that nobody has accepted."""
    return [one.told() for one in found if not any(these.covers(one.path, one.value) for these in accepted)]


def _scan(what: Sequence[str], repository: Path) -> list[Found]:
    with tempfile.TemporaryDirectory(prefix="taskwire-scan-") as directory:
        report = Path(directory) / "report.json"
        command = [_scanner(), "scan", *what, *_NO_NETWORK, *_ALL, "--format", "json", "--output", str(report)]
        _run(command, repository, _SCAN_TIMEOUT, may_end_with=(0, _FOUND))
        findings = json.loads(report.read_text())["findings"]
    return sorted({_found(one) for one in findings}, key=Found.told)


def _found(one: dict[str, dict[str, object]]) -> Found:
    finding, rule = one["finding"], one["rule"]
    git = finding.get("git_metadata")
    path, commit = str(finding["path"]).removeprefix("./"), ""
    if isinstance(git, dict):
        path, commit = str(git["file"]["path"]), str(git["commit"]["id"])[:12]
    return Found(path, int(str(finding["line"])), str(rule["id"]), str(finding["snippet"]), commit)


def _scanner() -> str:
    beside = Path(sys.executable).with_name("kingfisher")
    found = str(beside) if beside.exists() else shutil.which("kingfisher")
    if found is None:
        raise ScanError("kingfisher is not installed")
    return found


def _run(command: Sequence[str], directory: Path, timeout: float, may_end_with: Sequence[int] = (0,)) -> str:
    # What somebody has set for their own scans could make it see less.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KF_", "KINGFISHER_"))}
    try:
        ended = subprocess.run(  # noqa: S603
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScanError(f"{Path(command[0]).name}: {type(error).__name__}") from error
    if ended.returncode not in may_end_with:
        raise ScanError(f"{Path(command[0]).name} ended with {ended.returncode}: {ended.stderr[-300:].strip()}")
    return ended.stdout
