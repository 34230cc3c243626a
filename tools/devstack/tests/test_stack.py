"""The whole stack with its real parts: slow to start, so one stack serves the tests that leave it as they found it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from devstack.control import ControlError
from devstack.filelock import held
from devstack.kafka import ensure_topics
from devstack.layout import REPOSITORY, Layout
from devstack.polling import within
from devstack.ports import free_base
from devstack.stack_under_test import StackUnderTest
from devstack.state import StackReport

pytestmark = pytest.mark.e2e

SERVICES = ("task-api", "audit-worker", "notifier")
PARTS = (*SERVICES, *(f"daprd-{name}" for name in SERVICES), "postgres", "kafka")
"""The broker last: a daprd that loses it may end itself, a while later."""
PATIENCE = 90.0


def status_of(url: str) -> int:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        status: int = response.status
        return status


async def test_every_part_is_there_and_well(stack: StackUnderTest) -> None:
    await stack.wait_all_ready()

    report = stack.report
    assert set(report["parts"]) == set(PARTS)
    assert len({part["pid"] for part in report["parts"].values()}) == len(PARTS)
    assert [status_of(f"{url}/health/ready") for url in stack.urls.values()] == [200, 200, 200]


async def test_each_service_has_its_own_role_and_database(stack: StackUnderTest) -> None:
    for name, dsn in stack.databases.items():
        connection = await asyncpg.connect(dsn)
        expected = name.replace("-", "_")
        assert await connection.fetchval("SELECT current_user || '/' || current_database()") == f"{expected}/{expected}"
        await connection.close()


def test_the_state_file_with_its_passwords_is_private(stack: StackUnderTest) -> None:
    assert stack.layout.state_file.stat().st_mode & 0o777 == 0o600


def test_no_secret_shows_up_among_the_processes(stack: StackUnderTest) -> None:
    credentials = json.loads(stack.layout.credentials_file.read_text())
    secrets = [credentials["auth_secret"], credentials["postgres_password"], *credentials["role_passwords"].values()]
    argv = [" ".join(psutil.Process(stack.pid(name)).cmdline()) for name in PARTS]

    assert not [secret for secret in secrets if any(secret in line for line in argv)]
    assert not [line for line in argv if "token" in line.lower()]


def test_nothing_listens_beyond_this_machine(stack: StackUnderTest) -> None:
    pids = {stack.pid(name) for name in PARTS}
    connections = [c for c in psutil.net_connections("inet") if c.pid in pids and c.status == "LISTEN"]
    listening = [c.laddr.ip for c in connections if c.laddr]

    assert len(listening) >= len(PARTS)
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("name", PARTS)
async def test_a_killed_part_is_back_by_itself(stack: StackUnderTest, name: str) -> None:
    before = {part: stack.pid(part) for part in PARTS}

    await stack.kill(name)
    await stack.wait_all_ready()

    changed = [part for part in PARTS if stack.pid(part) != before[part]]
    assert name in changed
    # Nobody goes down with another part, but a daprd with the broker.
    assert [part for part in changed if part != name and not (name == "kafka" and part.startswith("daprd-"))] == []


async def test_a_part_can_be_taken_down_and_up_again(stack: StackUnderTest) -> None:
    await stack.stop_part("notifier")
    assert (stack.part("notifier")["state"], stack.part("notifier")["pid"]) == ("stopped", None)

    await stack.start_part("notifier")

    assert status_of(f"{stack.urls['notifier']}/health/ready") == 200


async def test_a_part_nobody_knows_is_refused_by_name(stack: StackUnderTest) -> None:
    with pytest.raises(ControlError, match="there is no part 'redis'; there are audit-worker, daprd-"):
        await stack.stop_part("redis")


def test_a_paused_part_is_left_alone_until_it_goes_on(stack: StackUnderTest) -> None:
    restarts = stack.part("task-api")["restarts"]
    stack.pause("task-api")
    try:
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{stack.urls['task-api']}/health/live", timeout=0.3).close()
    finally:
        stack.resume("task-api")

    assert status_of(f"{stack.urls['task-api']}/health/live") == 200
    assert stack.part("task-api")["restarts"] == restarts


async def test_topics_are_created_once_and_grow_when_asked(stack: StackUnderTest) -> None:
    await ensure_topics(stack.kafka, {"devstack.test": 1})
    await ensure_topics(stack.kafka, {"devstack.test": 1})
    await ensure_topics(stack.kafka, {"devstack.test": 3, "devstack.other": 1})

    async def has_grown() -> bool:  # a broker says so a moment after its controller has decided it
        return await partitions(stack.kafka, "devstack.test") == 3

    assert await within(PATIENCE, has_grown, 0.1)
    assert await partitions(stack.kafka, "tasks") == 6


async def partitions(bootstrap: str, topic: str) -> int:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        return len(described["partitions"])
    finally:
        await admin.close()


class Operator:
    """Somebody at a shell with a home and ports of their own."""

    def __init__(self, home: Path) -> None:
        base = free_base()
        self.environment = {
            **os.environ,
            "TASKWIRE_HOME": str(home),
            "TASKWIRE_PORT_BASE": str(base),
            "TASKWIRE_ENV_FILE": os.devnull,
        }
        self.layout = Layout.from_environment(self.environment)

    def types(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "devstack", *command],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def report(self) -> StackReport:
        report: StackReport = json.loads(self.types("status", "--json").stdout)
        return report

    def processes(self) -> list[int]:
        """Everything that runs for this home, postgres's helpers included."""
        ports = {f":{self.layout.ports.base + offset}" for offset in range(61)}
        mine = [process for process in psutil.process_iter(["cmdline"]) if self._is_mine(process, ports)]
        return [process.pid for process in mine if process.status() != psutil.STATUS_ZOMBIE]

    def _is_mine(self, process: psutil.Process, ports: set[str]) -> bool:
        try:
            words = " ".join(process.cmdline())
            told = process.environ().get("TASKWIRE_HOME") == str(self.layout.home)
        except psutil.Error:
            return False
        return process.pid != os.getpid() and (told or str(self.layout.home) in words or any(p in words for p in ports))


@contextmanager
def operator(home: Path) -> Iterator[Operator]:
    someone = Operator(home)
    try:
        yield someone
    finally:
        someone.types("down")


def eventually_nothing_left(someone: Operator) -> bool:
    """Neither process nor lock: a process that ends lets go of its memory a moment before its locks."""
    deadline = time.monotonic() + PATIENCE
    while (someone.processes() or held(someone.layout.lock_file)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return someone.processes() == [] and not held(someone.layout.lock_file)


def test_a_second_stack_lives_beside_the_first_survives_a_crash_and_leaves_nothing(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    with operator(tmp_path / "second") as someone:
        up = someone.types("up")
        assert up.returncode == 0, up.stderr
        assert all(service["url"] in up.stdout for service in someone.report()["services"].values())
        assert someone.types("up").returncode == 0, "starting what runs already is fine"
        first = someone.report()
        assert first["kafka"] != stack.kafka
        assert someone.types("run").returncode == 1
        token = someone.types("token", "--user", "ada").stdout.strip()

        os.kill(first["supervisor_pid"], signal.SIGKILL)

        assert eventually_nothing_left(someone)
        up = someone.types("up")
        assert up.returncode == 0, up.stderr
        again = someone.report()
        assert again["services"]["task-api"]["postgres"] == first["services"]["task-api"]["postgres"]
        assert authorised(again["services"]["task-api"]["url"], token), "data and secrets survive a crash"

        down = someone.types("down")

        assert down.returncode == 0, down.stderr
        assert someone.processes() == []
        assert not held(someone.layout.lock_file)
    assert [status_of(f"{url}/health/ready") for url in stack.urls.values()] == [200, 200, 200]


def authorised(url: str, token: str) -> bool:
    request = urllib.request.Request(f"{url}/api/v1/tasks", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return bool(response.status == 200)


def test_a_taken_port_ends_the_start_before_anything_is_started(stack: StackUnderTest, tmp_path: Path) -> None:
    someone = Operator(tmp_path / "third")
    someone.environment["TASKWIRE_PORT_BASE"] = str(stack.layout.ports.base)

    up = someone.types("up")

    assert up.returncode == 1
    assert f"Port {stack.layout.ports.postgres} is taken: PostgreSQL needs it, and process " in up.stderr
    assert "TASKWIRE_PORT_BASE=" in up.stderr
    assert not held(someone.layout.lock_file)
