"""Starting and ending processes so that none outlives its owner."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

from devstack.privileges import Identity

_LAUNCHER: Final = Path(__file__).with_name("launch.py")
_LOG_LIMIT: Final = 10 * 1024 * 1024
_TAIL_BYTES: Final = 16 * 1024


@dataclass(frozen=True)
class Command:
    """A program to run.

    Attributes:
        argv: The program and its arguments; nothing secret, everyone can read them.
        environment: Its whole environment.
        directory: Its working directory.
        identity: The user to become first, None for our own.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    identity: Identity | None = None

    def launcher_argv(self) -> list[str]:
        """The same program by way of the launcher, which ties it to the life of this process."""
        identity = self.identity or Identity(-1, -1, None)
        capability = -1 if identity.capability is None else identity.capability
        numbers = (os.getpid(), identity.uid, identity.gid, capability)
        return [sys.executable, "-I", "-S", str(_LAUNCHER), *map(str, numbers), *self.argv]


def open_log(path: Path) -> IO[bytes]:
    """Open a part's log for appending; what is there is set aside once it has grown large."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


async def spawn(command: Command, log: Path) -> asyncio.subprocess.Process:
    """Start a program in a session of its own, writing to a log; it dies when this process dies.

    Must be called from the main thread: Linux ties the child to the thread that forked it.
    """
    with open_log(log) as output:
        return await asyncio.create_subprocess_exec(
            *command.launcher_argv(),
            env=dict(command.environment),
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def run(command: Command, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and collect what it says on both streams in `stdout`.

    Raises:
        subprocess.TimeoutExpired: It took longer than `timeout` seconds and was killed.
    """
    return subprocess.run(  # noqa: S603
        command.launcher_argv(),
        env=dict(command.environment),
        cwd=command.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def popen(command: Command, log: Path) -> subprocess.Popen[bytes]:
    """Like `spawn`, for callers without an event loop."""
    with open_log(log) as output:
        return subprocess.Popen(  # noqa: S603
            command.launcher_argv(),
            env=dict(command.environment),
            cwd=command.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process we started and all of its group; no one left is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def start_time(pid: int) -> float | None:
    """When the process with this id started; with the id, it names one process for ever."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def log_tail(path: Path, lines: int) -> list[str]:
    """The last non-empty lines of a log file, whole ones, oldest first."""
    try:
        with path.open("rb") as file:
            size, length = file.seek(0, os.SEEK_END), _TAIL_BYTES
            while True:
                file.seek(max(0, size - length))
                found = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
                # One more than is asked for, as the first may be the end of a line.
                if len(found) > lines or length >= size:
                    return found[-lines:]
                length *= 4
    except FileNotFoundError:
        return []


def describe_exit(code: int) -> str:
    """How a process ended, for people: 'exit code 1' or 'killed by SIGKILL'."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
