"""A stack in the background: start it and come back when it is up, end it and come back when it is gone."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from devstack.console import Console
from devstack.failures import ProvisionError
from devstack.filelock import held
from devstack.layout import REPOSITORY, Layout

_READY: Final = b"ready"
_POLL: Final = 0.05
_STOP_DEADLINE: Final = 90.0
_LOG: Final = "devstack"


def start_in_background() -> bool:
    """Start a supervisor of its own session and wait until its stack is up.

    It shows its progress where we would. Returns whether it came up; when it did not, it has said why.
    """
    reader, writer = os.pipe()
    supervisor = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "devstack", "run", "--ready-fd", str(writer)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        pass_fds=[writer],
        start_new_session=True,
    )
    os.close(writer)
    try:
        ready = os.read(reader, len(_READY)) == _READY
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait()
        raise
    finally:
        os.close(reader)
    if not ready:
        supervisor.wait()
    else:
        # It goes on without us: not waiting for it is the point.
        supervisor.returncode = 0
    return ready


def step_back(layout: Layout, ready_fd: int, console: Console) -> None:
    """In the supervisor: tell the starter that all is up, and let go of its terminal."""
    console.plain()
    log = os.open(layout.log_file(_LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    with contextlib.suppress(OSError):
        os.write(ready_fd, _READY)
    os.close(ready_fd)


def stop(layout: Layout, console: Console) -> bool:
    """End the stack of this home; returns False when none runs.

    Raises:
        ProvisionError: It could not be ended.
    """
    if not held(layout.lock_file):
        return False
    with console.step("Stopping Taskwire"), contextlib.suppress(psutil.NoSuchProcess):
        pid = _holder(layout.lock_file)
        supervisor = psutil.Process(pid)
        supervisor.terminate()
        if not _gone(supervisor):
            # The guardian ends what it leaves behind.
            supervisor.kill()
            if not _gone(supervisor):
                raise ProvisionError(
                    "the stack could not be stopped",
                    f"process {pid} does not end",
                    f"End it by hand: kill -9 {pid}",
                )
    return True


def delete_data(layout: Layout) -> list[Path]:
    """Delete what a stopped stack left in its home; returns what is gone. The cache stays."""
    doomed = [layout.data, layout.logs, layout.run, layout.credentials_file]
    gone = [path for path in doomed if path.exists()]
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return gone


def _holder(lock_file: Path) -> int:
    try:
        return int(lock_file.read_text())
    except ValueError as error:
        raise ProvisionError(
            "the stack could not be stopped",
            f"{lock_file} does not say who holds it",
            "Try again in a moment",
        ) from error


def _gone(process: psutil.Process) -> bool:
    """Wait until a process has ended; nobody may have collected its remains yet, which is fine."""
    end = time.monotonic() + _STOP_DEADLINE
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        time.sleep(_POLL)
    return True
