"""What runs where, in a file: the supervisor writes it, the other commands read it."""

import json
from pathlib import Path
from typing import Final, NotRequired, TypedDict

from devstack.credentials import write_private
from devstack.filelock import held
from devstack.layout import Layout

STARTING: Final = "starting"
RUNNING: Final = "running"
STOPPING: Final = "stopping"


class PartReport(TypedDict):
    """One process."""

    state: str
    pid: int | None
    started_at: float | None
    restarts: int
    log: str


class ServiceReport(TypedDict):
    """One service and the sidecar beside it."""

    url: str
    pid: int | None
    dapr_pid: int | None
    dapr_http: int
    dapr_grpc: int
    postgres: str


class StackReport(TypedDict):
    """A whole stack; printed as it is by `make status JSON=1`."""

    running: bool
    state: str
    services: dict[str, ServiceReport]
    kafka: str
    kafka_pid: int | None
    postgres_pid: int | None
    supervisor_pid: int
    home: str
    port_base: int
    parts: dict[str, PartReport]
    started_at: NotRequired[float]


def write_report(path: Path, report: StackReport) -> None:
    """Publish the state; it holds passwords, so only its owner can read it."""
    write_private(path, json.dumps(report) + "\n", durable=False)


def read_report(layout: Layout) -> StackReport | None:
    """The state of the stack in this home, None when none runs (whatever an older file says)."""
    if not held(layout.lock_file):
        return None
    try:
        report: StackReport = json.loads(layout.state_file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return report
