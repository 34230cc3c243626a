"""Gets this checkout ready with nothing but python3: finds or installs uv, then the virtual environment.

    python3 -I tools/bootstrap/prepare.py            make .venv what uv.lock says
    python3 -I tools/bootstrap/prepare.py uv ARGS…   run uv, wherever it is

Kept to the standard library, and readable by older Pythons, so that they can at least say what is wrong.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OLDEST_PYTHON = (3, 11)
REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VENV = REPOSITORY / ".venv"
STAMP = VENV / ".taskwire-synced"
_FRAME = 0.1
_HEARTBEAT = 20.0


class SetupError(Exception):
    """One clear sentence: what failed, why, what to do."""


def main(arguments: Sequence[str]) -> int:
    """Do what was asked; returns the exit code."""
    try:
        require_python(sys.version_info[:2])
        if arguments[:1] == ["uv"]:
            return subprocess.call(  # noqa: S603
                [str(ensure_uv()), *arguments[1:]], cwd=REPOSITORY, env=uv_environment()
            )
        synchronise()
    except SetupError as error:
        _say(f"{_mark(failed=True)} {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def require_python(version: Sequence[int]) -> None:
    """Refuse a Python that is too old, in words."""
    if tuple(version) < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        found = ".".join(map(str, version))
        raise SetupError(
            f"Taskwire needs Python {wanted} or newer: {sys.executable} is {found}. "
            f"Install a newer one and name it: make run PYTHON=python{wanted}."
        )


def synchronise() -> None:
    """Make the virtual environment what the lock file says; nothing happens when it is already."""
    wanted = lock_digest()
    if is_synchronised(wanted):
        return
    with exclusive(cache() / "bootstrap.lock"):
        # Another make may have done it while this one waited.
        if is_synchronised(wanted):
            return
        uv = ensure_uv()
        arguments = [str(uv), "sync", "--frozen", "--compile-bytecode", "--quiet"]
        if not (VENV / "bin" / "python").exists():
            arguments += ["--python", sys.executable]
        with tempfile.TemporaryFile("w+") as output:
            if _watched("Python packages", arguments, uv_environment(), output) != 0:
                raise SetupError(
                    f"The Python packages could not be installed: {reason(_text(output))}. "
                    "Check the network and the free disk space, then run make again."
                )
        STAMP.write_text(wanted)


def is_synchronised(wanted: str) -> bool:
    """Whether the virtual environment was made from these lock files and its Python still works."""
    return (VENV / "bin" / "python").exists() and STAMP.exists() and STAMP.read_text() == wanted


def lock_digest() -> str:
    """A digest of everything that decides what is in the virtual environment."""
    digest = hashlib.sha256()
    members = [path for pattern in ("libs/*", "services/*", "tools/*") for path in REPOSITORY.glob(pattern)]
    files = [REPOSITORY / "uv.lock", *(directory / "pyproject.toml" for directory in [REPOSITORY, *sorted(members)])]
    for file in files:
        if file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def ensure_uv() -> Path:
    """A uv that is new enough: $UV, on PATH or in the cache, else installed there with pip."""
    own = cache() / "uv" / "bin" / "uv"
    on_path = shutil.which("uv")
    for candidate in (os.environ.get("UV"), on_path, str(own)):
        if candidate and uv_is_usable(Path(candidate)):
            return Path(candidate)
    with exclusive(cache() / "uv.lock"):
        if not uv_is_usable(own):
            install_uv(cache() / "uv")
    return own


def uv_is_usable(path: Path) -> bool:
    """Whether this is a uv that runs here and is not older than pyproject.toml asks for."""
    try:
        answer = subprocess.run(  # noqa: S603
            [str(path), "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return _numbers(answer.stdout) >= _numbers(oldest_uv())


def oldest_uv() -> str:
    """The oldest uv that will do, from pyproject.toml (read without tomllib, which older Pythons lack)."""
    found = re.search(r'required-version\s*=\s*">=([0-9.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    return found.group(1) if found else "0"


def install_uv(directory: Path) -> None:
    """Install the pinned uv below a directory, checked against its hashes, whole or not at all."""
    scratch = Path(tempfile.mkdtemp(prefix=".uv-", dir=str(directory.parent)))
    try:
        fresh = scratch / "uv"
        arguments = [str(REQUIREMENTS), "--target", str(fresh)]
        with tempfile.TemporaryFile("w+") as output:
            python = pip_python(scratch)
            command = [python, "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "--no-deps", "-r"]
            # Settings made for other purposes would contradict --target.
            environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
            if _watched("uv, which installs the rest", command + arguments, environment, output) != 0:
                raise SetupError(
                    f"uv could not be installed: {reason(_text(output))}. "
                    "Check the network (and pip's index settings), or install uv yourself, then run make again."
                )
        if directory.exists():
            directory.rename(scratch / "replaced")
        fresh.rename(directory)
    finally:
        shutil.rmtree(str(scratch), ignore_errors=True)


def pip_python(scratch: Path) -> str:
    """A Python that has pip: this one, or one made from the pip that comes inside Python."""
    if _succeeds([sys.executable, "-m", "pip", "--version"]):
        return sys.executable
    if _succeeds([sys.executable, "-m", "venv", str(scratch / "pip")]):
        return str(scratch / "pip" / "bin" / "python")
    raise SetupError(
        f"uv could not be installed: {sys.executable} has neither pip nor the means to make a virtual environment. "
        "Install one of them (apt-get install python3-venv, or dnf install python3-pip) or uv itself, "
        "then run make again."
    )


def cache() -> Path:
    """Where everything that was fetched is kept (`TASKWIRE_CACHE`)."""
    directory = Path(os.environ.get("TASKWIRE_CACHE") or "~/.cache/taskwire").expanduser().absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"The cache {directory} could not be created: {error.strerror}. Choose another place with TASKWIRE_CACHE."
        ) from error
    return directory


def uv_environment() -> dict[str, str]:
    """Ours, with what uv shall not take from the caller's other projects."""
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    kept.setdefault("UV_CACHE_DIR", str(cache() / "packages"))
    kept.setdefault("UV_HTTP_TIMEOUT", "120")
    kept["UV_PYTHON_DOWNLOADS"] = "never"
    return kept


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file for the length of a block; the kernel frees it should we die."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def reason(output: str) -> str:
    """Why a program failed, from what it said: its first error, with the innermost cause it gives."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match("error", line, re.IGNORECASE)]
    causes = [line for line in lines if re.match("(cause|caused by):", line, re.IGNORECASE)]
    if not errors:
        return (lines or ["no reason was given"])[-1].rstrip(".")
    told = [_without_label(errors[0]), *(_without_label(cause) for cause in causes[-1:])]
    return ": ".join(told)


def _watched(title: str, command: Sequence[str], environment: dict[str, str], output: IO[str]) -> int:
    """Run a command to its end, showing for how long it has been at it."""
    began = beat = time.monotonic()
    process = subprocess.Popen(  # noqa: S603
        command, cwd=str(REPOSITORY), env=environment, stdout=output, stderr=output
    )
    try:
        while process.poll() is None:
            time.sleep(_FRAME)
            if _live():
                _write(f"\r\033[K  - {title} {time.monotonic() - began:.0f} s")
            elif time.monotonic() - beat > _HEARTBEAT:
                beat = time.monotonic()
                _say(f"    still at it: {title} {beat - began:.0f} s")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    clear = "\r\033[K" if _live() else ""
    _write(f"{clear}  {_mark(failed=process.returncode != 0)} {title:<52} {time.monotonic() - began:>6.1f} s\n")
    return process.returncode


def _succeeds(command: Sequence[str]) -> bool:
    return (
        subprocess.call(  # noqa: S603
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        == 0
    )


def _text(output: IO[str]) -> str:
    output.seek(0)
    return output.read()


def _without_label(line: str) -> str:
    return line.partition(":")[2].strip().rstrip(".") or line


def _numbers(text: str) -> tuple[int, ...]:
    found = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _live() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _mark(*, failed: bool) -> str:
    unicode = "utf" in (sys.stderr.encoding or "").lower()
    mark = ("✗" if unicode else "x") if failed else ("✓" if unicode else "+")
    if _live() and not os.environ.get("NO_COLOR"):
        return f"\033[{31 if failed else 32}m{mark}\033[0m"
    return mark


def _say(text: str) -> None:
    _write(text + "\n")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
