"""A whole real stack for end-to-end tests, in a temporary home, and the means to hurt it."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import psutil
from typing_extensions import override

from devstack import control
from devstack.commands import settings
from devstack.credentials import Credentials
from devstack.failures import ProvisionError
from devstack.layout import REPOSITORY, Layout, Ports
from devstack.leaks import Leak, LeakedSecretsError, find_in_logs
from devstack.polling import until
from devstack.ports import free_base
from devstack.process import Command, log_tail, popen, signal_group
from devstack.stack_secrets import StackSecrets
from devstack.state import RUNNING, PartReport, StackReport, read_report

# The first stack ever on a machine builds daprd.
_START_DEADLINE: Final = 1_200.0
_STOP_DEADLINE: Final = 90.0
# Far longer than anything takes on a machine that has time for it.
_CONTROL_DEADLINE: Final = 300.0
_POLL: Final = 0.05
_TAIL: Final = 30
_ATTEMPTS: Final = 3
_COVERAGE: Final = "COV"
"""How the variables begin by which coverage measures the processes that a test starts."""


_SECRET_VARIABLE: Final = re.compile(r"(SECRET|PASSWORD|TOKEN|_KEYS?)$")
_OURS: Final = ("TASKWIRE_", "DAPR_", "APP_")
_SHORTEST_SECRET: Final = 16


class StackUnderTest(StackSecrets):
    """One stack, run by a supervisor process of its own; ends with this process at the latest."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Prepare a stack.

        Args:
            environment: Settings that differ from our own environment's, for the stack and its services.
        """
        super().__init__()
        self._environment = dict(environment or {})
        self._home = Path(tempfile.mkdtemp(prefix="taskwire-stack-"))
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.layout = self._layout()

    def __enter__(self) -> Self:
        """Start everything and wait until it is ready.

        Raises:
            ProvisionError: It did not come up; the supervisor's last lines are in its notes.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            self._start()
            if self._came_up():
                return self
            self._stop()
            if attempt == _ATTEMPTS or not self._lost_a_port():
                break
            self.layout = self._layout()
        error = self._failure()
        shutil.rmtree(self._home, ignore_errors=True)
        raise error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End it in good order and delete its data; TASKWIRE_KEEP_TEST_STACK=1 keeps them for a look.

        Raises:
            LeakedSecretsError: Some part has logged a secret; not when the block failed already.
        """
        secrets = self.secrets()
        self._stop()
        leaks = find_in_logs(self._logs(), secrets)
        if not os.environ.get("TASKWIRE_KEEP_TEST_STACK"):
            shutil.rmtree(self._home, ignore_errors=True)
        if leaks and kind is None:
            raise LeakedSecretsError(leaks)

    @property
    def report(self) -> StackReport:
        """The state of the stack right now: pids, ports, connection strings.

        Raises:
            ProvisionError: It is not running.
        """
        report = read_report(self.layout)
        if report is None:
            raise ProvisionError("the stack for the tests is gone", "its supervisor has ended", f"See {self._log}")
        return report

    @property
    def urls(self) -> Mapping[str, str]:
        """Base URL per service."""
        return {name: service["url"] for name, service in self.report["services"].items()}

    @property
    def databases(self) -> Mapping[str, str]:
        """Connection string per service."""
        return {name: service["postgres"] for name, service in self.report["services"].items()}

    @property
    def kafka(self) -> str:
        """Bootstrap address of the broker."""
        return self.report["kafka"]

    @property
    def ports(self) -> Ports:
        """Where on the loopback address everything listens."""
        return self.layout.ports

    @property
    def part_names(self) -> Sequence[str]:
        """Every part there is."""
        return list(self.report["parts"])

    @override
    def signing_secret(self) -> str:
        """What tokens of this stack are signed with.

        Raises:
            ProvisionError: It never started.
        """
        credentials = Credentials.load(self.layout.credentials_file)
        if credentials is None:
            raise ProvisionError("no token can be made", "the stack never started", "Start it first")
        return credentials.auth_secret

    @override
    def own_secrets(self) -> Mapping[str, str]:
        """What the stack locks its data and its parts with, and a name for each."""
        known: dict[str, str] = {}
        credentials = Credentials.load(self.layout.credentials_file)
        if credentials is not None:
            known[credentials.auth_secret] = "TASKWIRE_AUTH_HS256_SECRET"
            known[credentials.postgres_password] = "the password of postgres"
            known |= {password: f"the password of {role}" for role, password in credentials.role_passwords.items()}
        for part in self._parts().values():
            known |= _secret_variables(part["pid"])
        return known

    def leaks(self) -> list[Leak]:
        """Where some part has logged a secret until now."""
        return find_in_logs(self._logs(), self.secrets())

    def part(self, name: str) -> PartReport:
        """State, pid and log of a part: a service, `daprd-` and a service, `kafka` or `postgres`."""
        return self.report["parts"][name]

    def pid(self, name: str) -> int:
        """Process id of a part that runs."""
        pid = self.part(name)["pid"]
        if pid is None:
            raise ProvisionError(f"{name} cannot be signalled", "it does not run", "Start it first")
        return pid

    def environment(self, name: str) -> Mapping[str, str]:
        """What a part that runs was told."""
        return psutil.Process(self.pid(name)).environ()

    def pause(self, name: str) -> None:
        """Freeze a part and everything below it (SIGSTOP): it keeps its connections and answers nobody."""
        for process in self._tree(name):
            process.suspend()

    def resume(self, name: str) -> None:
        """Let a frozen part go on (SIGCONT)."""
        for process in self._tree(name):
            process.resume()

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a part from outside and wait until that process is gone; the supervisor starts it again."""
        pid = self.pid(name)
        os.kill(pid, number)

        async def is_gone() -> bool:
            return self.part(name)["pid"] != pid

        async with asyncio.timeout(_CONTROL_DEADLINE):
            await until(is_gone, _POLL)

    async def stop_part(self, name: str) -> None:
        """Stop a part in good order; it stays down until `start_part`."""
        await self._ask("stop", name)

    async def start_part(self, name: str) -> None:
        """Start a stopped part and wait until it is ready."""
        await self._ask("start", name)

    async def wait_ready(self, name: str) -> None:
        """Wait until a part runs and does its work."""
        await self._ask("wait", name)

    async def wait_all_ready(self) -> None:
        """Wait until every part runs and does its work."""
        await asyncio.gather(*(self.wait_ready(name) for name in self.report["parts"]))

    async def make_whole(self) -> None:
        """Have every part run and do its work, whatever was frozen or stopped."""
        for name, part in self.report["parts"].items():
            if part["pid"] is not None:
                with suppress(psutil.NoSuchProcess):  # it has just ended, so it was not frozen
                    self.resume(name)
        for name in self.report["parts"]:
            await self.start_part(name)
        await self.wait_all_ready()

    def exit_codes(self, name: str) -> list[int]:
        """How a part ended each time that it ended unasked, as the supervisor saw it; negative: by which signal."""
        ended = rf"(?<![\w-]){re.escape(name)} died \((?:exit code (\d+)|killed by (\w+))"
        told = re.findall(ended, self._log.read_text())
        return [int(code) if code else -signal.Signals[by] for code, by in told]

    def log(self, name: str, lines: int = 50) -> list[str]:
        """The last lines a part has logged."""
        return log_tail(self.layout.log_file(name), lines)

    async def _ask(self, verb: str, name: str) -> None:
        try:
            await asyncio.to_thread(control.ask, self.layout.run, verb, name, _CONTROL_DEADLINE)
        except control.ControlError as error:
            # The stack is deleted when the test ends: what it said goes with the failure.
            for line in self._story(name):
                error.add_note(line)
            raise

    def _logs(self) -> list[Path]:
        return [*sorted(self.layout.logs.glob("*.log*")), *([self._log] if self._log.exists() else [])]

    def _story(self, name: str) -> list[str]:
        """What is known of a part that did not obey: every part's state, its own last lines and the supervisor's."""
        states = [f"{part} is {was['state']} after {was['restarts']} restarts" for part, was in self._parts().items()]
        return ["; ".join(states), *self.log(name, _TAIL), "The supervisor says:", *log_tail(self._log, _TAIL)]

    def _parts(self) -> Mapping[str, PartReport]:
        report = read_report(self.layout)
        return {} if report is None else report["parts"]

    def _tree(self, name: str) -> list[psutil.Process]:
        process = psutil.Process(self.pid(name))
        return [process, *process.children(recursive=True)]

    @property
    def _log(self) -> Path:
        return self._home / "supervisor.log"

    def _layout(self) -> Layout:
        cache = Layout.from_environment(settings()).cache
        return Layout(self._home, cache, Ports(free_base()))

    def _start(self) -> None:
        chosen = {
            **self._environment,
            "TASKWIRE_HOME": str(self.layout.home),
            "TASKWIRE_CACHE": str(self.layout.cache),
            "TASKWIRE_PORT_BASE": str(self.layout.ports.base),
            # What a developer set for the stack they use is not for tests.
            "TASKWIRE_ENV_FILE": os.devnull,
        }
        argv = [sys.executable, "-m", "devstack", "run"]
        # What services execute is measured by their own tests; to measure it here, too, would slow them all down.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_COVERAGE)}
        self._supervisor = popen(Command(argv, inherited | chosen, REPOSITORY), self._log)

    def _came_up(self) -> bool:
        deadline = time.monotonic() + _START_DEADLINE
        while self._supervisor is not None and self._supervisor.poll() is None and time.monotonic() < deadline:
            report = read_report(self.layout)
            if report is not None and report["state"] == RUNNING:
                return True
            time.sleep(_POLL)
        return False

    def _lost_a_port(self) -> bool:
        """Whether somebody took a port between our look at it and our use of it."""
        return any("is taken" in line or "in use" in line for line in log_tail(self._log, _TAIL))

    def _failure(self) -> ProvisionError:
        lines = log_tail(self._log, _TAIL)
        why = next((line for line in reversed(lines) if line.startswith(("\u2717", "x "))), "it did not say why")
        error = ProvisionError("the stack for the tests did not start", why, "Its last lines follow")
        for line in lines:
            error.add_note(line)
        return error

    def _stop(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.terminate()
        try:
            supervisor.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            signal_group(supervisor.pid, signal.SIGKILL)
            supervisor.wait()


def _secret_variables(pid: int | None) -> dict[str, str]:
    """What a process was told under a name that says it is secret: also what was made for this start alone."""
    try:
        environment = psutil.Process(pid).environ() if pid is not None else {}
    except psutil.Error:  # it has just ended
        return {}
    return {
        value: name
        for name, value in environment.items()
        if _SECRET_VARIABLE.search(name) and name.startswith(_OURS) and len(value) >= _SHORTEST_SECRET
    }
