"""The process that owns a stack from the first step to the last."""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from devstack import state
from devstack.console import Console
from devstack.control import ControlError, listening
from devstack.credentials import Credentials
from devstack.crew import Crew, end_leftovers
from devstack.failures import ProvisionError
from devstack.layout import Layout
from devstack.ports import require_free, stack_ports
from devstack.process import start_time
from devstack.provision import provision
from devstack.report import stack_report
from devstack.services import Service, planned
from devstack.signals import stop_requests, stoppable
from devstack.stack import Stack, stop_stages

_SAME_START: Final = 0.05


@dataclass(frozen=True)
class Supervisor:
    """Prepares, starts, keeps and ends one stack.

    Attributes:
        layout: Paths and ports of the stack.
        inherited: The environment that goes through to the services.
        console: Where progress and events are shown.
        on_ready: Called once, when everything is up.
    """

    layout: Layout
    inherited: Mapping[str, str]
    console: Console
    on_ready: Callable[[], None]

    def run(self) -> None:
        """Do it all; returns when the stack was asked to end and every part has.

        Raises:
            ProvisionError: It could not be brought up; everything that was started is down again.
        """
        services = planned(self.inherited)
        self.layout.make_directories()
        with _only_one(self.layout), stoppable():
            self._clean_up_after_a_crash()
            require_free(stack_ports(self.layout.ports, [s.name for s in services]), self.layout.ports.base)
            programs = provision(self.layout, self.console)
            credentials = Credentials.ensure(self.layout.credentials_file, [s.module for s in services])
            publisher = _Publisher(self.layout, credentials, services)
            with Crew(self.console, publisher.publish) as crew:
                publisher.crew = crew
                stack = Stack(self.layout, services, programs, credentials, self.inherited, self.console, crew)
                asyncio.run(self._supervise(stack, publisher))
            self.layout.state_file.unlink(missing_ok=True)

    def _clean_up_after_a_crash(self) -> None:
        def is_same(pid: int, started_at: float) -> bool:
            now = start_time(pid)
            return now is not None and abs(now - started_at) < _SAME_START

        for name in end_leftovers(self.layout.state_file, is_same):
            self.console.event(f"{name} was left over from an earlier run and has been ended")
        self.layout.state_file.unlink(missing_ok=True)

    async def _supervise(self, stack: Stack, publisher: "_Publisher") -> None:
        # Its clients log every refused connection while the broker is still on its way up.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        async with stop_requests(stack.crew.kill) as stop:
            try:
                async with listening(self.layout.run, _Commands(stack.crew).handle):
                    if await _unless(stop, stack.start()):
                        publisher.enter(state.RUNNING)
                        self.on_ready()
                        await stop.wait()
            finally:
                publisher.enter(state.STOPPING)
                await self._end(stack)

    async def _end(self, stack: Stack) -> None:
        with self.console.step("Stopping"):
            await stack.crew.stop(stop_stages(stack.services))


class _Publisher:
    """Writes the state file whenever something changed."""

    def __init__(self, layout: Layout, credentials: Credentials, services: Sequence[Service]) -> None:
        self._layout = layout
        self._credentials = credentials
        self._services = services
        self._state = state.STARTING
        self._began = time.time()
        self.crew: Crew | None = None

    def enter(self, new: str) -> None:
        self._state = new
        self.publish()

    def publish(self) -> None:
        if self.crew is None:
            return
        report = stack_report(self._layout, self._credentials, self._state, self._services, self.crew.parts)
        report["started_at"] = self._began
        with contextlib.suppress(OSError):
            # A full disk must not end the stack; the next change tries again.
            state.write_report(self._layout.state_file, report)


@dataclass(frozen=True)
class _Commands:
    """What may be asked over the control socket."""

    crew: Crew

    async def handle(self, verb: str, part: str) -> None:
        if part not in self.crew.parts:
            raise ControlError(f"there is no part {part!r}; there are {', '.join(sorted(self.crew.parts))}")
        if verb == "stop":
            await self.crew.parts[part].stop()
        elif verb == "start":
            self.crew.parts[part].start()
            await self.crew.parts[part].wait_ready()
        elif verb == "wait":
            await self.crew.wait_well(part)
        else:
            raise ControlError(f"nobody knows how to {verb!r} a part")


@contextmanager
def _only_one(layout: Layout) -> Iterator[None]:
    """Hold the stack's lock; the file says who holds it."""
    descriptor = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            raise ProvisionError(
                "a stack runs in this home already",
                f"process {holder} holds {layout.lock_file}",
                "Look at make status, end it with make down, "
                "or start another with its own TASKWIRE_HOME and TASKWIRE_PORT_BASE",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work unless asked to stop first; whether it was done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        return False
    await working
    return True
