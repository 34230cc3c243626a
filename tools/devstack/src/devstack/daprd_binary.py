"""Finds the daprd to run, or has it built.

In this order: what `$DAPRD` names, what was built before, `daprd` on PATH, the Dapr CLI's own, a new build.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack import daprd_build
from devstack.failures import ProvisionError
from devstack.filelock import exclusive, held

MODULE: Final = Path(__file__).resolve().parents[3] / "daprd"
"""Our Go module, `tools/daprd`; devstack only ever runs from the checkout."""

OLDEST: Final = (1, 18)
"""The oldest Dapr taken from the machine: components/ relies on what was tested on this version, above all
that a message in flight is held back, not dead-lettered, when its sidecar stops or its app is unhealthy."""

_ANSWER_TIMEOUT: Final = 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class DaprdBinary:
    """A daprd that has answered.

    Attributes:
        path: The program.
        version: What it says of itself, such as "1.18.1".
        origin: How it was found, in words for a person.
    """

    path: Path
    version: str
    origin: str


def ensure_daprd(cache: Path, progress: Progress) -> DaprdBinary:
    """A daprd that answers and is not too old; built in `cache` when the machine has none.

    A build takes some minutes the first time and is kept as `cache/daprd/<key>/daprd`, the key being a hash
    of the sources and the platform; what Go downloaded and compiled on the way is removed. Stacks that ask at
    the same time wait for one build. A candidate that will not do is passed over, and `progress` says why.

    Raises:
        ProvisionError: None was found and none could be built.
    """
    named = os.environ.get("DAPRD")
    if named and (found := _usable(Path(shutil.which(named) or named), "$DAPRD", progress)):
        return found
    for candidate, origin in _candidates(cache):
        if found := _usable(candidate, origin, progress):
            return found
    return _built(cache, progress)


def _candidates(cache: Path) -> Iterator[tuple[Path, str]]:
    try:
        built = _destination(cache)
    except ProvisionError:
        pass  # no build for this platform; an installed daprd will still do
    else:
        if built.exists():
            yield built, "built before from tools/daprd"
    on_path = shutil.which("daprd")
    if on_path is not None:
        yield Path(on_path), "on PATH"
    by_cli = Path.home() / ".dapr" / "bin" / "daprd"
    if by_cli.exists():
        yield by_cli, "installed by the Dapr CLI"


def _destination(cache: Path) -> Path:
    return cache / "daprd" / daprd_build.source_key(MODULE) / "daprd"


def _built(cache: Path, progress: Progress) -> DaprdBinary:
    destination = _destination(cache)
    lock = cache / "daprd.lock"
    if held(lock):
        progress("waiting for another stack to build daprd")
    with exclusive(lock):
        # Whoever held the lock may have built it meanwhile.
        if destination.exists() and (found := _usable(destination, "built just now by another stack", progress)):
            return found
        daprd_build.build(MODULE, destination, cache, progress)
    found = _usable(destination, "built from tools/daprd", progress)
    if found is None:
        raise ProvisionError(
            daprd_build.WHAT,
            f"what was built at {destination} does not run on this machine",
            "Point DAPRD at a daprd binary that does",
        )
    return found


def _usable(path: Path, origin: str, progress: Progress) -> DaprdBinary | None:
    try:
        version = _ask_version(path)
    except (OSError, subprocess.SubprocessError) as broken:
        progress(f"daprd {origin} ({path}) skipped: it does not answer --version ({_reason(broken)})")
        return None
    numbers = re.match(r"v?(\d+)\.(\d+)\b", version)
    if numbers is None:
        progress(f"daprd {origin} ({path}) skipped: {version[:40]!r} is no version")
        return None
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        progress(f"daprd {origin} ({path}) skipped: it is {version}, need {oldest} or newer")
        return None
    return DaprdBinary(path.absolute(), version.removeprefix("v"), origin)


def _ask_version(path: Path) -> str:
    answer = subprocess.run(  # noqa: S603
        [path, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_ANSWER_TIMEOUT,
        check=True,
    )
    return answer.stdout.strip()


def _reason(broken: Exception) -> str:
    if isinstance(broken, OSError):
        return broken.strerror or "it cannot be started"
    if isinstance(broken, subprocess.CalledProcessError):
        return f"exit code {broken.returncode}"
    return f"no answer within {_ANSWER_TIMEOUT} s"
