"""Builds the programs that are missing, one after the other, and fetches what else lies in the Go modules."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cluster.programs import BUILD_FLAGS, MODULES, Program, Programs, found, missing
from devstack.daprd_binary import MODULE as DAPRD_MODULE
from devstack.failures import ProvisionError
from devstack.filelock import exclusive, held
from devstack.go_build import GoProgram, Progress, compile_program, failure, go_environment, target_platform
from devstack.go_toolchain import ensure_go

FREE_BYTES_NEEDED: Final = 8 * 1024**3
_BUILD_TIMEOUT: Final = 3 * 3600.0
_DOWNLOAD_TIMEOUT: Final = 1800.0
_UNDO: Final = "Undo local changes in tools/cluster"
_SOURCES: Final = MODULES / "crds"


def ensure(wanted: Iterable[Program], cache: Path, progress: Progress) -> Programs:
    """Build what is missing into `cache/cluster`, and say what takes how long.

    Go's own caches are where they always are (`go env GOCACHE GOMODCACHE`): the programs of Kubernetes share most of
    what they are made of, and whoever builds them once builds them again after the next update. About 4 GB.

    Raises:
        ProvisionError: One could not be built; those before it stay.
    """
    wanted = list(wanted)
    if not missing(wanted, cache):
        return found(wanted, cache)
    lock = cache / "cluster.lock"
    if held(lock):
        progress("waiting for another build of the cluster's programs")
    with exclusive(lock):
        left = missing(wanted, cache)
        if left:
            _require_space(cache)
        go = ensure_go(DAPRD_MODULE, cache, progress) if left else Path("go")
        for number, program in enumerate(left, 1):
            progress(f"{program.name} {program.version}: building, {number} of {len(left)}")
            began = time.monotonic()
            _build(go, program, program.path(cache))
            size = program.path(cache).stat().st_size / 1024**2
            progress(f"{program.name} {program.version}: built in {time.monotonic() - began:.0f} s, {size:.0f} MB")
    return found(wanted, cache)


def module_directory(module: str, cache: Path, progress: Progress) -> Path:
    """Where Go keeps the files of a module that `tools/cluster/crds` pins; fetched when they are not there.

    Raises:
        ProvisionError: They could not be fetched, or are not what go.sum says.
    """
    go = ensure_go(DAPRD_MODULE, cache, progress)
    answer = subprocess.run(  # noqa: S603
        [go, "mod", "download", "-json", module],
        cwd=_SOURCES,
        env=go_environment(*target_platform()),
        capture_output=True,
        text=True,
        timeout=_DOWNLOAD_TIMEOUT,
        check=False,
    )
    if answer.returncode != 0:
        raise failure(answer.stdout + answer.stderr, f"the files of {module} could not be had", _UNDO)
    return Path(json.loads(answer.stdout)["Dir"])


def _build(go: Path, program: Program, destination: Path) -> None:
    built = GoProgram(program.name, program.source, program.package, BUILD_FLAGS, program.linker_flags, _UNDO)
    compile_program(go, built, destination, timeout=_BUILD_TIMEOUT)


def _require_space(cache: Path) -> None:
    free = shutil.disk_usage(cache).free
    if free < FREE_BYTES_NEEDED:
        raise ProvisionError(
            "the programs of a cluster could not be built",
            f"that takes {FREE_BYTES_NEEDED / 1024**3:.0f} GB of disk, and {cache} has {free / 1024**3:.1f} GB free",
            "Make room there, or set TASKWIRE_CACHE, GOCACHE and GOMODCACHE to directories on a larger disk",
        )
