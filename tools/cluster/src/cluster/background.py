"""Programs that run for as long as their cluster does."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError
from devstack.process import Command, describe_exit, log_tail, popen

_STOP_WITHIN: Final = 20.0
_POLL: Final = 0.2
_LINES_SHOWN: Final = 15


@dataclass
class Background:
    """Programs that were started, and end with this process at the latest.

    Attributes:
        logs: Where each writes to a file of its name.
    """

    logs: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start one."""
        told = {**os.environ, **(environment or {})}
        self._running[name] = popen(Command(list(argv), told, self.logs), self.log(name))

    def log(self, name: str) -> Path:
        """Where a program logs."""
        return self.logs / f"{name}.log"

    def wait(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a program does its work.

        Raises:
            ProvisionError: It ended before that, or took longer; its last lines are in the notes.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            ended = self._running[name].poll() if name in self._running else None
            if ended is not None:
                raise self._failure(name, f"it ended with {describe_exit(ended)}")
            if time.monotonic() > deadline:
                raise self._failure(name, f"it was not ready after {seconds:.0f} s")
            time.sleep(_POLL)

    def ended(self) -> list[str]:
        """Those that run no more, although nobody stopped them."""
        return [name for name, process in self._running.items() if process.poll() is not None]

    def stop(self) -> None:
        """End all of them, the last one first."""
        for _, process in reversed(self._running.items()):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_WITHIN)
            process.kill()
            process.wait()
        self._running.clear()

    def _failure(self, name: str, why: str) -> ProvisionError:
        error = ProvisionError(f"{name} did not start", why, f"Look at {self.log(name)}")
        for line in log_tail(self.log(name), _LINES_SHOWN):
            error.add_note(line)
        return error
