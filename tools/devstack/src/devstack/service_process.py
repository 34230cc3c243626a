"""A service as it is deployed, for tests and benchmarks: a process of its own, `python -m <package> serve`.

What it is told is the caller's (`chassis.testing.environment_for` makes it); the port is found here.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError
from devstack.layout import HOST
from devstack.polling import within
from devstack.ports import bindable, free_port
from devstack.probe import http_status
from devstack.process import Command, describe_exit, log_tail, spawn

_START_DEADLINE: Final = 90.0
_PROBE_TIMEOUT: Final = 15.0
_STOP_DEADLINE: Final = 30.0
_POLL: Final = 0.05
_ATTEMPTS: Final = 3


@dataclass(frozen=True)
class ServiceProcess:
    """One that is ready, or was.

    Attributes:
        process: To be asked, stopped or killed.
        port: Where it listens, on the loopback address.
        log: What it said on both streams.
    """

    process: asyncio.subprocess.Process
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"


@asynccontextmanager
async def running_service(
    package: str,
    environment: Mapping[str, str],
    log: Path,
    *,
    python: str = sys.executable,
    directory: Path = Path("/"),
) -> AsyncIterator[ServiceProcess]:
    """Run a service until the block ends, in which it may be stopped or killed.

    Args:
        package: Import name of the service.
        environment: All that it is told, but for the port.
        log: Where what it says goes, behind what is there.
        python: The interpreter of the virtual environment that has it.
        directory: Where it is started.

    Raises:
        ProvisionError: It ended, or was not ready in time; says with what words.
    """
    how = "never started"
    for _ in range(_ATTEMPTS):
        port = free_port()
        told = {**environment, "TASKWIRE_PORT": str(port)}
        process = await spawn(Command([python, "-m", package, "serve"], told, directory), log)
        service = ServiceProcess(process, port, log)
        try:
            if await _is_ready(service):
                yield service
                return
            how = "not ready in time" if process.returncode is None else describe_exit(process.returncode)
            if process.returncode is None or bindable(port):
                break
        finally:
            await _end(process)
    said = log_tail(log, 3)
    raise ProvisionError(f"{package} did not start ({how})", " / ".join(said) or "it said nothing", f"See {log}")


async def _is_ready(service: ServiceProcess) -> bool:
    async def answers_or_ended() -> bool:
        if service.process.returncode is not None:
            return True
        return await http_status(service.port, "/health/ready", patience=_PROBE_TIMEOUT) == HTTPStatus.OK

    return await within(_START_DEADLINE, answers_or_ended, _POLL) and service.process.returncode is None


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_DEADLINE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
