"""All parts of a stack together: who is there, what happens to them, how they end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self

from devstack.console import Console
from devstack.part import Part, PartSpec, PartState
from devstack.polling import until
from devstack.process import log_tail, signal_group

_GUARDIAN: Final = Path(__file__).with_name("guardian.py")
_LAST_WORDS: Final = 160
_PROBE_INTERVAL: Final = 0.1


class Crew:
    """Owns the parts, tells people what happens to them and keeps the guardian informed."""

    def __init__(self, console: Console, on_change: Callable[[], None]) -> None:
        self._console = console
        self._on_change = on_change
        self._guardian: subprocess.Popen[str] | None = None
        self.parts: dict[str, Part] = {}

    def __enter__(self) -> Self:
        """Start the guardian."""
        # With streams of its own: a terminal or pipe that it held would never see its end.
        self._guardian = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(_GUARDIAN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Let the guardian go; it ends whatever is left."""
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            self._guardian.wait()

    def add(self, spec: PartSpec) -> Part:
        """Take a part on; it is not started yet."""
        part = Part(spec, self)
        self.parts[spec.name] = part
        self.changed()
        return part

    async def stop(self, stages: Iterable[Sequence[str]]) -> None:
        """Stop parts stage after stage, those of one stage together."""
        for stage in stages:
            present = [self.parts[name] for name in stage if name in self.parts]
            await asyncio.gather(*(part.stop() for part in present))

    def kill(self) -> None:
        """End every part at once."""
        for part in self.parts.values():
            part.kill()

    async def wait_well(self, name: str) -> None:
        """Wait until a part runs and says right now that it does its work."""
        part = self.parts[name]

        async def is_well() -> bool:
            return part.state is PartState.READY and await part.spec.ready()

        await until(is_well, _PROBE_INTERVAL)

    def began(self, pid: int) -> None:
        """A process was started: the guardian shall know its group."""
        self._tell(f"+{pid}\n")

    def ended(self, pid: int) -> None:
        """A process is gone with its group."""
        self._tell(f"-{pid}\n")

    def died(self, part: Part, how: str, delay: float) -> None:
        """A part ended unasked: say so in one line."""
        last = log_tail(part.spec.log, 1)
        words = f"; last words: {_plain(last[0])[:_LAST_WORDS]}" if last else ""
        again = "starting it again" if delay == 0 else f"starting it again in {delay:.0f} s"
        self._console.event(f"{part.spec.name} died ({how}), {again}{words}")

    def changed(self) -> None:
        """Some part has another state or process."""
        self._on_change()

    def _tell(self, line: str) -> None:
        guardian = self._guardian
        if guardian is None or guardian.stdin is None:
            return
        try:
            guardian.stdin.write(line)
            guardian.stdin.flush()
        except BrokenPipeError:
            # Somebody killed the guardian; parts still die with us, one net is left of two.
            self._guardian = None


def end_leftovers(state_file: Path, is_same: Callable[[int, float], bool]) -> list[str]:
    """End processes of an earlier run that both nets missed; returns their names.

    Args:
        state_file: State of the earlier run.
        is_same: Whether the process with this id still is the one that started at this time.
    """
    ended = []
    for name, pid, started_at in _recorded(state_file):
        if pid != os.getpid() and is_same(pid, started_at):
            signal_group(pid, signal.SIGKILL)
            ended.append(name)
    return ended


def _recorded(state_file: Path) -> list[tuple[str, int, float]]:
    """Name, process id and start time of every part in a state file; nothing where it makes no sense."""
    try:
        parts = json.loads(state_file.read_text())["parts"]
        return [(name, part["pid"], part["started_at"]) for name, part in parts.items() if part["pid"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _plain(line: str) -> str:
    """A log line for people: the message alone where it is JSON."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    return str(record.get("event") or record.get("msg") or record.get("message") or line)
