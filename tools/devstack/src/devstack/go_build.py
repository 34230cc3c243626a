"""Builds programs with Go, and tells from its words what went wrong."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError

_LOWEST_PRIORITY: Final = 19
_LINES_SHOWN: Final = 5
_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

_DISK = ("no space left on device", "disk quota exceeded")
_MEMORY = ("signal: killed", "cannot allocate memory")
_TAMPERED = ("checksum mismatch", "SECURITY ERROR")
_NETWORK = (
    "dial tcp",
    "no such host",
    "server misbehaving",
    "i/o timeout",
    "TLS handshake",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "proxyconnect",
    "bad gateway",
    "Bad Gateway",
    "Service Unavailable",
    "unexpected EOF",
    "module lookup disabled",
)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class GoProgram:
    """What is built.

    Attributes:
        name: How it is called in what is said of it.
        source: Directory of the Go module that pins it.
        package: What `go build` is told to build there.
        flags: For `go build`.
        linker_flags: For `go build -ldflags`.
        otherwise: What to do when it could not be built and nobody knows why.
    """

    name: str
    source: Path
    package: str
    flags: Sequence[str]
    linker_flags: str
    otherwise: str


def compile_program(
    go: Path, program: GoProgram, destination: Path, *, timeout: float, places: Mapping[str, str] | None = None
) -> None:
    """Build a program to `destination`, which appears complete or not at all; gives way to all else on the machine.

    Args:
        go: The `go` that builds.
        program: What it builds.
        destination: A file; its directory is made.
        timeout: Seconds after which it is given up.
        places: Where Go keeps what it needs (GOCACHE and so on), when not where it always does.

    Raises:
        ProvisionError: Says which of network, disk, memory or sources it was.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    what = f"{program.name} could not be built"
    with tempfile.TemporaryDirectory(prefix="building-", dir=destination.parent) as temporary:
        fresh = Path(temporary) / destination.name
        options = [*program.flags, "-ldflags", program.linker_flags, "-o", str(fresh)]
        try:
            done = subprocess.run(  # noqa: S603
                [*_politely(), str(go), "build", *options, program.package],
                cwd=program.source,
                env={**go_environment(*target_platform()), **(places or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProvisionError(
                what, f"it took longer than {timeout:.0f} s", "Try again when less runs here"
            ) from error
        if done.returncode != 0:
            raise failure(done.stderr, what, program.otherwise)
        fresh.replace(destination)


def _politely() -> list[str]:
    """A build of many minutes yields to everything else on the machine."""
    nice = shutil.which("nice")
    return [] if nice is None else [nice, "-n", str(_LOWEST_PRIORITY)]


def target_platform() -> tuple[str, str]:
    """GOOS and GOARCH of this machine.

    Raises:
        ProvisionError: The native stack is not made for it.
    """
    system, machine = platform.system(), platform.machine()
    architecture = _ARCHITECTURES.get(machine.lower())
    if system != "Linux" or architecture is None:
        raise ProvisionError(
            "nothing can be built with Go here",
            f"the native stack runs on Linux on x86-64 or ARM64, and this is {system} on {machine}",
            "Use a Linux machine; a daprd of your own is taken from DAPRD",
        )
    return "linux", architecture


def go_environment(goos: str, goarch: str) -> dict[str, str]:
    """The caller's environment (proxy settings above all) with Go's own choices fixed."""
    return {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",  # no C compiler on a fresh machine
        "GOOS": goos,
        "GOARCH": goarch,
    }


def failure(output: str, what: str, otherwise: str) -> ProvisionError:
    """Tells from go's words which kind of failure it was; the first kind that fits wins.

    Args:
        output: What go said.
        what: What failed.
        otherwise: What to do when it was no kind that is known.
    """
    lines = [line for line in output.splitlines() if line.strip()]

    def said(words: tuple[str, ...]) -> str | None:
        return next((line.strip() for line in reversed(lines) if any(word in line for word in words)), None)

    if line := said(_DISK):
        return ProvisionError(
            what,
            f"the disk is full ({line})",
            "Make room, or set TASKWIRE_CACHE to a directory on a larger disk",
        )
    if line := said(_TAMPERED):
        return ProvisionError(
            what, f"a module is not the one recorded in go.sum ({line})", "Do not go on; try another network"
        )
    if line := said(_MEMORY):
        return ProvisionError(what, f"memory ran out ({line})", "Close other programs and try again")
    if line := said(_NETWORK):
        return ProvisionError(
            what,
            f"its modules could not be downloaded ({line})",
            "Check the network and the proxy settings (GOPROXY, HTTPS_PROXY), then try again",
        )
    return ProvisionError(
        what,
        "go said: " + " | ".join(line.strip() for line in lines[-_LINES_SHOWN:]),
        otherwise,
    )
