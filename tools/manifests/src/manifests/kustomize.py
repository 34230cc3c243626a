"""A kustomize: the one installed, the one inside kubectl, or one built from `tools/kustomize` (45 s of a core)."""

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError
from devstack.filelock import exclusive
from devstack.go_build import GoProgram, Progress, compile_program
from devstack.go_toolchain import ensure_go

MODULE: Final = Path(__file__).resolve().parents[3] / "kustomize"
"""Our Go module, `tools/kustomize`: nothing but a version of kustomize."""

_PACKAGE: Final = "sigs.k8s.io/kustomize/kustomize/v5"
_OLDEST: Final = (5, 0)
_TOOLCHAIN: Final = MODULE.with_name("daprd")
"""Needs a newer Go than kustomize does, and names the wheel where none is installed."""
_ANSWER_TIMEOUT: Final = 20
_BUILD_TIMEOUT: Final = 900
_RENDER_TIMEOUT: Final = 120
_FLAGS: Final = ("-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false")


@dataclass(frozen=True)
class Kustomize:
    """One that has answered.

    Attributes:
        command: What a directory is put behind to have it built.
        version: What it says of itself.
    """

    command: tuple[str, ...]
    version: str

    def render(self, directory: Path) -> str:
        """Give the manifests of an overlay as YAML documents.

        Raises:
            ProvisionError: kustomize refuses it, and says why.
        """
        done = subprocess.run(  # noqa: S603
            [*self.command, str(directory)], capture_output=True, text=True, timeout=_RENDER_TIMEOUT, check=False
        )
        if done.returncode != 0:
            raise ProvisionError(
                f"the manifests in {directory} cannot be built", done.stderr.strip(), "Correct what kustomize names"
            )
        return done.stdout


def ensure_kustomize(cache: Path, progress: Progress) -> Kustomize:
    """Find a kustomize of version 5, or build one into `cache/kustomize`.

    Raises:
        ProvisionError: There is none, and it cannot be built.
    """
    for command in (("kustomize", "version"), ("kubectl", "version", "--client", "--output=json")):
        if found := _installed(command):
            return found
    return _built(cache, progress)


def _installed(command: tuple[str, ...]) -> Kustomize | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603
            [program, *command[1:]], capture_output=True, text=True, timeout=_ANSWER_TIMEOUT, check=True
        ).stdout
        version = str(json.loads(answer)["kustomizeVersion"]) if command[0] == "kubectl" else answer.strip()
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _OLDEST:
        return None
    return Kustomize((program, "kustomize" if command[0] == "kubectl" else "build"), version)


def _built(cache: Path, progress: Progress) -> Kustomize:
    version = _pinned()
    destination = cache / "kustomize" / version / "kustomize"
    with exclusive(cache / "kustomize.lock"):
        if not destination.exists():
            progress(f"building kustomize {version}, once")
            _build(cache, destination, progress)
    return Kustomize((str(destination), "build"), version)


def _pinned() -> str:
    found = re.search(rf"{re.escape(_PACKAGE)} (v\S+)", (MODULE / "go.mod").read_text())
    assert found is not None, f"{MODULE / 'go.mod'} names no {_PACKAGE}"  # noqa: S101
    return found[1]


def _build(cache: Path, destination: Path, progress: Progress) -> None:
    go = ensure_go(_TOOLCHAIN, cache, progress)
    kustomize = GoProgram("kustomize", MODULE, _PACKAGE, _FLAGS, "-s -w", "Install kustomize 5 or kubectl")
    # Nothing else here is made of the same packages, so none is kept.
    with tempfile.TemporaryDirectory(prefix="kustomize-", dir=cache) as scratch:
        places = {"GOPATH": f"{scratch}/path", "GOMODCACHE": f"{scratch}/modules", "GOCACHE": f"{scratch}/build"}
        compile_program(go, kustomize, destination, timeout=_BUILD_TIMEOUT, places=places)
