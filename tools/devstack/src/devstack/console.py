"""What a person sees while the stack comes up: one line per step, and what is still going on."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self, TextIO

_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME: Final = 0.1
_HEARTBEAT: Final = 20.0
_TITLE_WIDTH: Final = 52
_MINUTE: Final = 60.0


@dataclass
class Step:
    """One thing in progress."""

    title: str
    began: float = field(default_factory=time.monotonic)
    detail: str = ""
    beats: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def line(self) -> str:
        """What it is and how long it has taken."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.title}{detail} {seconds(self.elapsed)}"


class Console:
    """Writes progress to a stream; moving parts only on a terminal, colours only where they are welcome."""

    def __init__(self, stream: TextIO, *, terminal: bool, colours: bool) -> None:
        self._stream = stream
        self._terminal = terminal
        self._colours = colours
        self._unicode = "utf" in (stream.encoding or "").lower()
        self._lock = threading.RLock()
        self._steps: list[Step] = []
        self._ticker: threading.Thread | None = None
        self._frame = 0

    @classmethod
    def on(cls, stream: TextIO) -> Self:
        """A console that suits the stream: https://no-color.org and dumb terminals are respected."""
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        return cls(stream, terminal=terminal, colours=terminal and not os.environ.get("NO_COLOR"))

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while it lasts, then one line with the time it took."""
        step = Step(title)
        with self._lock:
            self._steps.append(step)
            self._ensure_ticker()
        try:
            yield step
        except BaseException:
            self._finish(step, failed=True)
            raise
        self._finish(step, failed=False)

    def say(self, text: str = "") -> None:
        """Write a line."""
        with self._lock:
            self._clear()
            self._write(text + "\n")

    def event(self, text: str) -> None:
        """Write a line about something that happened while the stack runs."""
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        self.say(f"{self._paint('2', now)} {text}")

    def failure(self, text: str) -> None:
        """Write what went wrong."""
        self.say(f"{self._paint('31', self._glyph('✗', 'x'))} {text}")

    def heading(self, text: str) -> None:
        """Write a line that stands out."""
        self.say(self._paint("1", text))

    def plain(self) -> None:
        """From here on the stream is a file: no moving parts, no colours."""
        with self._lock:
            self._clear()
            self._terminal = self._colours = False

    def _finish(self, step: Step, *, failed: bool) -> None:
        mark = self._paint("31", self._glyph("✗", "x")) if failed else self._paint("32", self._glyph("✓", "+"))
        detail = f" ({step.detail})" if step.detail else ""
        with self._lock:
            self._steps.remove(step)
            title = f"{step.title}{detail}"
            self.say(f"  {mark} {title:<{_TITLE_WIDTH}} {self._paint('2', f'{seconds(step.elapsed):>8}')}")

    def _ensure_ticker(self) -> None:
        if self._ticker is None or not self._ticker.is_alive():
            self._ticker = threading.Thread(target=self._tick, name="console", daemon=True)
            self._ticker.start()

    def _tick(self) -> None:
        while True:
            time.sleep(_FRAME)
            with self._lock:
                if not self._steps:
                    self._clear()
                    self._ticker = None
                    return
                self._draw() if self._terminal else self._beat()

    def _draw(self) -> None:
        self._frame += 1
        spinner = _SPINNER[self._frame % len(_SPINNER)] if self._unicode else "-\\|/"[self._frame % 4]
        line = f"  {spinner} " + " · ".join(step.line() for step in self._steps)
        width = shutil.get_terminal_size().columns - 1
        self._write("\r\x1b[K" + line[:width])

    def _beat(self) -> None:
        for step in self._steps:
            if step.elapsed > _HEARTBEAT * (step.beats + 1):
                step.beats += 1
                self._write(f"    still at it: {step.line()}\n")

    def _clear(self) -> None:
        if self._terminal:
            self._write("\r\x1b[K")

    def _glyph(self, preferred: str, plain: str) -> str:
        return preferred if self._unicode else plain

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal may be gone; the stack must not go with it.
            self._stream = sys.__stderr__ or self._stream


def seconds(duration: float) -> str:
    """A duration for people: 0.4 s, 12.0 s, 2 min 5 s."""
    if duration < _MINUTE:
        return f"{duration:.1f} s"
    return f"{int(duration // _MINUTE)} min {int(duration % _MINUTE)} s"
