import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from devstack import part as part_module
from devstack.console import Console
from devstack.crew import Crew
from devstack.failures import ProvisionError
from devstack.part import Part, PartSpec, PartState
from devstack.process import Command, log_tail

PATIENCE = 90.0
READY = "import pathlib, time; pathlib.Path('ready').write_text('yes'); "
FOREVER = READY + "time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER
WITH_CHILD = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "print(child.pid, flush=True); " + FOREVER
)


class Theatre:
    """Parts made of little Python programs, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.screen = io.StringIO()
        self.crew = Crew(Console.on(self.screen), lambda: None)

    def cast(self, program: str, name: str = "hero", grace: float = PATIENCE, deadline: float = PATIENCE) -> Part:
        place = self.directory / name
        place.mkdir()

        async def ready() -> bool:
            return (place / "ready").exists()

        def command() -> Command:
            (place / "ready").unlink(missing_ok=True)
            return Command([sys.executable, "-c", program], dict(os.environ), place)

        log = self.directory / f"{name}.log"
        return self.crew.add(PartSpec(name, command, ready, log, stop_grace=grace, start_deadline=deadline))

    async def is_ready_with_another_pid(self, part: Part, pid: int | None) -> None:
        await eventually(lambda: part.state is PartState.READY and part.pid != pid)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def in_time(work: Awaitable[None]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(PATIENCE):
        await work
    return loop.time() - began


@pytest.fixture
async def theatre(tmp_path: Path) -> AsyncIterator[Theatre]:
    theatre = Theatre(tmp_path)
    with theatre.crew:
        yield theatre
        await theatre.crew.stop([list(theatre.crew.parts)])


async def test_a_part_is_ready_when_it_says_so(theatre: Theatre) -> None:
    part = theatre.cast(FOREVER)

    part.start()
    states = [part.state]
    await part.wait_ready()

    assert [*states, part.state] == [PartState.STARTING, PartState.READY]
    assert part.pid is not None
    assert psutil.pid_exists(part.pid)


async def test_a_part_that_is_killed_is_reported_and_runs_again(theatre: Theatre) -> None:
    part = theatre.cast('print(\'{"event": "all is well"}\', flush=True); ' + FOREVER)
    part.start()
    await part.wait_ready()
    first = part.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    await theatre.is_ready_with_another_pid(part, first)

    assert part.restarts == 1
    (line,) = theatre.screen.getvalue().splitlines()
    assert "hero died (killed by SIGKILL), starting it again; last words: all is well" in line


async def test_what_a_killed_part_had_started_is_gone_too(theatre: Theatre) -> None:
    part = theatre.cast(WITH_CHILD)
    part.start()
    await part.wait_ready()
    assert part.pid is not None
    child = int(log_tail(part.spec.log, 1)[0])

    os.kill(part.pid, signal.SIGKILL)

    await eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


async def test_a_part_that_keeps_dying_is_started_less_and_less_often(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert part_module.BACKOFF == (0.0, 1.0, 2.0, 4.0, 8.0, 10.0)
    monkeypatch.setattr(part_module, "BACKOFF", (0.0, 0.01, 0.02))
    part = theatre.cast("raise SystemExit(3)")

    part.start()
    await eventually(lambda: part.restarts >= 4)

    said = [line.partition("died ")[2].partition(";")[0] for line in theatre.screen.getvalue().splitlines()[:4]]
    assert said == ["(exit code 3), starting it again"] + ["(exit code 3), starting it again in 0 s"] * 3


async def test_a_part_that_dies_twice_before_it_was_ready_has_failed_and_its_log_says_why(theatre: Theatre) -> None:
    part = theatre.cast("raise SystemExit('no database here')")

    part.start()
    with pytest.raises(ProvisionError, match=r"hero did not start: it ended with exit code 1\. Its log") as caught:
        await part.wait_ready()

    assert caught.value.__notes__[-1] == "no database here"


async def test_a_part_that_never_gets_ready_has_failed_when_its_time_is_up(theatre: Theatre) -> None:
    part = theatre.cast("import time; time.sleep(600)", deadline=0.3)

    part.start()
    with pytest.raises(ProvisionError, match="it was not ready after 0 s"):
        await part.wait_ready()


async def test_a_program_that_cannot_be_started_is_a_death_like_any_other(theatre: Theatre) -> None:
    part = theatre.cast(FOREVER)
    (theatre.directory / "hero").rmdir()

    part.start()
    with pytest.raises(ProvisionError, match="hero did not start: it ended with not started: .*No such file"):
        await part.wait_ready()


async def test_a_stopped_part_stays_down_until_it_is_started(theatre: Theatre) -> None:
    part = theatre.cast(FOREVER)
    part.start()
    await part.wait_ready()
    first = part.pid

    await part.stop()

    assert part.state is PartState.STOPPED
    assert part.pid is None
    assert theatre.screen.getvalue() == ""
    part.start()
    await part.wait_ready()
    assert part.pid not in (None, first)


async def test_a_part_that_ignores_the_request_to_end_is_killed_when_its_time_is_up(theatre: Theatre) -> None:
    part = theatre.cast(STUBBORN, grace=0.3)
    part.start()
    await part.wait_ready()

    assert await in_time(part.stop()) >= 0.3

    assert part.pid is None


async def test_a_paused_part_hears_the_request_to_end(theatre: Theatre) -> None:
    part = theatre.cast(FOREVER, grace=600)
    part.start()
    await part.wait_ready()
    assert part.pid is not None
    os.kill(part.pid, signal.SIGSTOP)

    await in_time(part.stop())


async def test_a_paused_part_is_left_alone(theatre: Theatre) -> None:
    part = theatre.cast(FOREVER)
    part.start()
    await part.wait_ready()
    first = part.pid
    assert first is not None

    os.kill(first, signal.SIGSTOP)
    await eventually(lambda: psutil.Process(first).status() == psutil.STATUS_STOPPED)
    await asyncio.sleep(0.2)

    assert (part.pid, part.restarts) == (first, 0)
    os.kill(first, signal.SIGCONT)


async def test_a_part_can_be_stopped_while_it_waits_for_its_next_start(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "BACKOFF", (600.0,))
    part = theatre.cast("raise SystemExit(1)", grace=600)
    part.start()
    await eventually(lambda: part.state is PartState.WAITING)

    await in_time(part.stop())

    assert part.state is PartState.STOPPED


async def test_parts_end_stage_after_stage(theatre: Theatre) -> None:
    order: list[str] = []
    parts = [theatre.cast(FOREVER, name) for name in ("sidecar", "app", "broker")]
    for part in parts:
        part.start()
        await part.wait_ready()
    theatre.crew._on_change = lambda: order.extend(
        part.spec.name for part in parts if part.state is PartState.STOPPED and part.spec.name not in order
    )

    await theatre.crew.stop([["sidecar"], ["app", "unknown"], ["broker"]])

    assert order == ["sidecar", "app", "broker"]
