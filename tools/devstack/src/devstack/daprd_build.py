"""Builds daprd out of `tools/daprd`, once per state of its sources, inside the cache directory."""

import hashlib
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from devstack.failures import ProvisionError
from devstack.go_build import Progress, failure, go_environment, target_platform
from devstack.go_toolchain import ensure_go
from devstack.process import Command

WHAT: Final = "daprd could not be built"
_OTHERWISE: Final = "Undo local changes in tools/daprd, or point DAPRD at a daprd binary"
FREE_BYTES_NEEDED: Final = 3 * 1024**3
_PROGRESS_INTERVAL: Final = 3.0
_BUILD_FLAGS: Final = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-modcacherw")


@dataclass
class _Tally:
    """What go has told so far."""

    modules: int = 0
    packages: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=200))

    def note(self, line: str) -> None:
        self.tail.append(line)
        if line.startswith("go: downloading "):
            self.modules += 1
        elif re.fullmatch(r"[\w.~/-]+", line):
            self.packages += 1

    def summary(self) -> str:
        if self.packages == 0:
            return f"building daprd: {self.modules} modules downloaded"
        return f"building daprd: {self.packages} packages compiled of about 1,500"


def source_key(module: Path) -> str:
    """Names the binary that these sources make on this machine; any change in them changes it."""
    digest = hashlib.sha256(repr((target_platform(), _BUILD_FLAGS)).encode())
    for path in sorted([module / "go.mod", module / "go.sum", *module.glob("*.go")]):
        content = path.read_bytes()
        digest.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def build(module: Path, destination: Path, cache: Path, progress: Progress) -> None:
    """Compile a module to `destination`, which appears complete or not at all.

    Everything Go needs on the way (modules, compiled packages, a toolchain where none is installed) lies in
    `cache/go` and is removed after a success: about 2 GB that only another build would use. After a failure
    it stays, so that the next try goes on from there. The caller holds the lock that keeps builds apart.

    Raises:
        ProvisionError: Says which of network, disk, memory, toolchain or sources it was.
    """
    goos, goarch = target_platform()
    scratch = cache / "go"
    scratch.mkdir(parents=True, exist_ok=True)
    _require_space(cache)
    go = ensure_go(module, cache, progress)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=scratch) as temporary:
        fresh = Path(temporary) / "daprd"
        environment = go_environment(goos, goarch) | _places(scratch, Path(temporary))
        _run([str(go), *_arguments(module, fresh)], module, environment, progress)
        os.replace(fresh, destination)  # noqa: PTH105
    shutil.rmtree(scratch, ignore_errors=True)


def _require_space(cache: Path) -> None:
    free = shutil.disk_usage(cache).free
    if free < FREE_BYTES_NEEDED:
        raise ProvisionError(
            WHAT,
            f"building it takes {FREE_BYTES_NEEDED / 1024**3:.0f} GB of disk for a while,"
            f" and {cache} has {free / 1024**3:.1f} GB free",
            "Make room there, or set TASKWIRE_CACHE to a directory on a larger disk",
        )


def _arguments(module: Path, output: Path) -> list[str]:
    # The runtime reports this string as its own version (in /v1.0/metadata) and says "edge" without it.
    version = re.search(r"github\.com/dapr/dapr v(\S+)", (module / "go.mod").read_text())
    stamp = f"-X github.com/dapr/dapr/pkg/buildinfo.version={version[1]}" if version else ""
    return ["build", "-v", *_BUILD_FLAGS, "-ldflags", f"-s -w {stamp}".strip(), "-o", str(output), "."]


def _places(scratch: Path, temporary: Path) -> dict[str, str]:
    return {
        "GOPATH": str(scratch / "path"),
        "GOMODCACHE": str(scratch / "modules"),
        "GOCACHE": str(scratch / "build"),
        "GOTMPDIR": str(temporary),
    }


def _run(command: list[str], directory: Path, environment: dict[str, str], progress: Progress) -> None:
    tally = _Tally()
    progress("building daprd: looking up modules")
    # Through the launcher, so that a build does not outlive a stack that is killed.
    process = subprocess.Popen(  # noqa: S603
        Command(command, environment, directory).launcher_argv(),
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        with process:
            assert process.stderr is not None  # noqa: S101 - asked for with PIPE above
            for line in _lines(process.stderr):
                if line is None:
                    progress(tally.summary())
                else:
                    tally.note(line)
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        raise failure("\n".join(tally.tail), WHAT, _OTHERWISE)


def _lines(stream: IO[str]) -> Iterator[str | None]:
    """Lines as they come, and None whenever it is time to report: one package alone can take a minute."""
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with suppress(ValueError):  # closed under the reader when the build is abandoned
            for line in stream:
                arrived.put(line.rstrip("\n"))
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    due = time.monotonic() + _PROGRESS_INTERVAL
    while True:
        with suppress(queue.Empty):
            line = arrived.get(timeout=max(0.0, due - time.monotonic()))
            if line is None:
                return
            yield line
        if time.monotonic() >= due:
            yield None
            due = time.monotonic() + _PROGRESS_INTERVAL
