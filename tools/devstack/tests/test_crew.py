import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from devstack.crew import end_leftovers
from devstack.guardian import watch
from devstack.process import Command, popen, start_time

SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
from devstack.console import Console
from devstack.crew import Crew
from devstack.part import PartSpec
from devstack.process import Command

CHILD = "import time; print(__import__('os').getpid(), flush=True); time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"

async def main():
    async def ready():
        return log.exists() and log.read_text() != ""
    log = Path("part.log")
    with Crew(Console.on(sys.stderr), lambda: None) as crew:
        part = crew.add(PartSpec("hero", lambda: Command([sys.executable, "-c", PARENT], {}, Path.cwd()), ready, log))
        part.start()
        await part.wait_ready()
        print(crew._guardian.pid, part.pid, log.read_text().strip(), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_supervisor_leaves_neither_parts_nor_what_they_started(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    with supervisor.stdout:
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
    assert len(pids) == 3
    assert all(alive(pid) for pid in pids)

    supervisor.kill()
    supervisor.wait()

    deadline = time.monotonic() + 90
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [pid for pid in pids if alive(pid)] == []


def test_the_guardian_remembers_groups_until_they_are_taken_back() -> None:
    assert watch(["+10\n", "+11\n", "-10\n", "+12\n"]) == {11, 12}


def state_of(directory: Path, pid: int, started_at: float) -> Path:
    file = directory / "state.json"
    file.write_text(json.dumps({"parts": {"kafka": {"pid": pid, "started_at": started_at}, "x": {"pid": None}}}))
    return file


def test_what_an_earlier_run_left_behind_is_ended(tmp_path: Path) -> None:
    left_over = popen(
        Command([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ), tmp_path), tmp_path / "log"
    )
    file = state_of(tmp_path, left_over.pid, start_time(left_over.pid) or 0)

    ended = end_leftovers(file, lambda pid, at: start_time(pid) == at)

    assert ended == ["kafka"]
    assert left_over.wait(90) == -signal.SIGKILL


def test_a_stranger_who_got_the_same_process_id_is_spared(tmp_path: Path) -> None:
    file = state_of(tmp_path, os.getppid(), 12345.0)

    assert end_leftovers(file, lambda pid, at: start_time(pid) == at) == []


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"parts": 3}'])
def test_a_damaged_state_file_ends_nobody(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)

    assert end_leftovers(file, lambda *_: True) == []
