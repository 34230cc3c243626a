import io
import re
import time

import pytest
from typing_extensions import override

from devstack import console as console_module
from devstack.console import Console, seconds


class Terminal(io.StringIO):
    encoding = "utf-8"

    @override
    def isatty(self) -> bool:
        return True


def test_a_step_is_one_line_with_its_time() -> None:
    stream = io.StringIO()
    with Console.on(stream).step("Kafka") as step:
        step.detail = "4.1"

    (line,) = stream.getvalue().splitlines()
    assert re.fullmatch(r"\s*\+ Kafka \(4\.1\) +\d+\.\d s", line), line


def test_a_step_that_fails_is_marked_and_the_error_goes_on() -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Console.on(stream).step("Kafka"):
        raise RuntimeError

    assert stream.getvalue().split()[:2] == ["x", "Kafka"]


def test_a_file_gets_no_control_characters() -> None:
    stream = io.StringIO()
    console = Console.on(stream)
    with console.step("Kafka"):
        console.failure("no")
        console.event("died")
        console.heading("up")

    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_colours_unless_they_are_unwelcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    Console.on(coloured).failure("no")
    monkeypatch.setenv("NO_COLOR", "1")
    Console.on(plain).failure("no")

    assert "\x1b[31m" in coloured.getvalue()
    assert "\x1b[31m" not in plain.getvalue()


def test_a_terminal_shows_what_is_still_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console_module, "_FRAME", 0.005)
    stream = Terminal()
    deadline = time.monotonic() + 90
    with Console.on(stream).step("Kafka"):
        while not re.search(r"Kafka \d+\.\d s", stream.getvalue()):
            assert time.monotonic() < deadline, "no progress was drawn"
            time.sleep(0.005)

    assert "✓" in stream.getvalue().splitlines()[-1]


def test_a_file_is_told_when_a_step_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "_FRAME", 0.005)
    monkeypatch.setattr(console_module, "_HEARTBEAT", 0.01)
    stream = io.StringIO()
    deadline = time.monotonic() + 90
    with Console.on(stream).step("Building"):
        while "still at it: Building" not in stream.getvalue():
            assert time.monotonic() < deadline, "nothing was said"
            time.sleep(0.005)


@pytest.mark.parametrize(("duration", "text"), [(0.04, "0.0 s"), (12.34, "12.3 s"), (125.9, "2 min 5 s")])
def test_durations_read_naturally(duration: float, text: str) -> None:
    assert seconds(duration) == text
