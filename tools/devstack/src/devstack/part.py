"""One process of the stack, kept running."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from devstack.failures import ProvisionError
from devstack.polling import until
from devstack.process import Command, describe_exit, log_tail, signal_group, spawn, start_time

BACKOFF: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 10.0)
"""Seconds before each further start of a part that keeps dying; the last one repeats."""

_SETTLED: Final = 10.0
_PROBE_INTERVAL: Final = 0.05
_EARLY_DEATHS: Final = 2
_TAIL: Final = 15


class PartState(StrEnum):
    """Where a part is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "restarting"
    STOPPING = "stopping"


@dataclass(frozen=True)
class PartSpec:
    """How to start, ask and stop a part.

    Attributes:
        name: What people call it.
        command: Makes the program to run, anew for every start.
        ready: Whether it does its work right now.
        log: Where its output goes.
        stop_signal: Asks it to end in good order.
        stop_grace: Seconds it has for that before it is killed.
        start_deadline: Seconds it has to become ready.
    """

    name: str
    command: Callable[[], Command]
    ready: Callable[[], Awaitable[bool]]
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace: float = 10.0
    start_deadline: float = 180.0


class PartObserver(Protocol):
    """Is told what happens to parts."""

    def began(self, pid: int) -> None:
        """A process was started; its group is its own."""

    def ended(self, pid: int) -> None:
        """A process and its group are gone."""

    def died(self, part: "Part", how: str, delay: float) -> None:
        """A part ended without being asked to and starts again after `delay` seconds."""

    def changed(self) -> None:
        """Some part has another state or process."""


class Part:
    """Runs one process and starts it again whenever it dies, until it is told to stop."""

    def __init__(self, spec: PartSpec, observer: PartObserver) -> None:
        self.spec = spec
        self.state = PartState.STOPPED
        self.pid: int | None = None
        self.started_at: float | None = None
        self.restarts = 0
        self._observer = observer
        self._keeper: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._early_deaths = 0
        self._failed = False
        self._last_exit = ""

    def start(self) -> None:
        """Begin to run and to keep running; nothing happens when it does already."""
        if self._keeper is None:
            self._early_deaths = 0
            self._failed = False
            self._wake.clear()
            self._settled.clear()
            self._set(PartState.STARTING)
            self._keeper = asyncio.create_task(self._keep_running(), name=f"part {self.spec.name}")

    async def wait_ready(self) -> None:
        """Wait until the part does its work.

        Raises:
            ProvisionError: It died twice before it ever did, or its time is up.
        """
        try:
            async with asyncio.timeout(self.spec.start_deadline):
                await self._settled.wait()
        except TimeoutError as error:
            raise self._failure(f"it was not ready after {self.spec.start_deadline:.0f} s") from error
        if self._failed:
            raise self._failure(f"it ended with {self._last_exit}")

    async def stop(self) -> None:
        """End the process in good order, or by force once its time is up, and do not start it again."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        self._set(PartState.STOPPING)
        self._wake.set()
        self._ask_to_end()
        done, _ = await asyncio.wait([keeper], timeout=self.spec.stop_grace)
        if not done:
            self.kill()
            await asyncio.wait([keeper])
        self._set(PartState.STOPPED)

    def kill(self) -> None:
        """End the process and its group at once."""
        if self.pid is not None:
            signal_group(self.pid, signal.SIGKILL)

    def _ask_to_end(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self.spec.stop_signal)
            # A process that somebody paused hears nothing until it goes on.
            os.kill(self._process.pid, signal.SIGCONT)

    def _stopping(self) -> bool:
        return self._wake.is_set()

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while not self._stopping():
            began = loop.time()
            how = await self._run_once()
            if self._stopping():
                return
            attempt = 0 if loop.time() - began > _SETTLED else attempt
            delay = BACKOFF[min(attempt, len(BACKOFF) - 1)]
            attempt += 1
            self._note_death(how, delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _run_once(self) -> str:
        """Run the process to its end; says how it ended."""
        self._set(PartState.STARTING)
        try:
            process = await spawn(self.spec.command(), self.spec.log)
        except (OSError, ProvisionError) as error:
            return f"not started: {error}"
        self._process, self.pid, self.started_at = process, process.pid, start_time(process.pid)
        self._observer.began(process.pid)
        self._observer.changed()
        prober = asyncio.create_task(self._probe())
        try:
            if self._stopping():
                self._ask_to_end()
            code = await process.wait()
        finally:
            prober.cancel()
            # Whatever it started itself goes with it.
            signal_group(process.pid, signal.SIGKILL)
            self._observer.ended(process.pid)
            self.pid = self.started_at = None
        return describe_exit(code)

    async def _probe(self) -> None:
        await until(self._is_ready, _PROBE_INTERVAL)
        if not self._stopping():
            self._set(PartState.READY)
            self._failed = False
            self._settled.set()

    async def _is_ready(self) -> bool:
        try:
            return await self.spec.ready()
        except ProvisionError as error:
            self._last_exit = str(error)
            return False

    def _note_death(self, how: str, delay: float) -> None:
        self._last_exit = how
        self.restarts += 1
        if not self._settled.is_set():
            self._early_deaths += 1
        self._set(PartState.WAITING)
        self._observer.died(self, how, delay)
        if self._early_deaths >= _EARLY_DEATHS:
            self._failed = True
            self._settled.set()

    def _set(self, state: PartState) -> None:
        if self.state is not state:
            self.state = state
            self._observer.changed()

    def _failure(self, why: str) -> ProvisionError:
        error = ProvisionError(f"{self.spec.name} did not start", why, f"Its log, {self.spec.log}, says more")
        for line in log_tail(self.spec.log, _TAIL):
            error.add_note(line)
        return error
