"""Which ports are free, and who holds those that are not."""

import random
import socket
from collections.abc import Mapping
from typing import Final

import psutil

from devstack.failures import ProvisionError
from devstack.layout import HOST, Ports

# Most systems hand out 32768-60999 to outgoing connections; below it nobody takes a port behind our back.
_FREE_RANGE: Final = range(20_000, 32_000, 100)
_ATTEMPTS: Final = 200
_LAST_OFFSET: Final = 60
"""Of the ports of a stack, from its base."""


def bindable(port: int) -> bool:
    """Whether a server could listen on this loopback port right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def require_free(wanted: Mapping[str, int], base: int) -> None:
    """Make sure that every port is free before anything is started.

    Args:
        wanted: What each port is for, and the port.
        base: The port base they come from, to suggest another.

    Raises:
        ProvisionError: One is taken; says which, for what, and by whom where that can be known.
    """
    for purpose, port in wanted.items():
        if not bindable(port):
            raise ProvisionError(
                f"port {port} is taken",
                f"{purpose} needs it, and {_holder(port)} listens on it",
                f"Stop that process, or choose other ports: make run TASKWIRE_PORT_BASE={_suggestion(base)}",
            )


def free_port() -> int:
    """A port that is free, picked at random from those that no whole stack picks.

    Raises:
        ProvisionError: None was found.
    """
    candidates = [base + offset for base in _FREE_RANGE for offset in range(_LAST_OFFSET + 1, _FREE_RANGE.step)]
    for port in random.sample(candidates, _ATTEMPTS):
        if bindable(port):
            return port
    raise _nothing_free()


def free_base(last_offset: int = _LAST_OFFSET) -> int:
    """A port base whose ports are all free, picked at random so that stacks started together differ.

    Raises:
        ProvisionError: None was found.
    """
    candidates = random.sample(_FREE_RANGE, min(_ATTEMPTS, len(_FREE_RANGE)))
    for base in candidates:
        if all(bindable(base + offset) for offset in range(last_offset + 1)):
            return base
    raise _nothing_free()


def _nothing_free() -> ProvisionError:
    return ProvisionError(
        "no free ports were found",
        f"every one tried between {_FREE_RANGE.start} and {_FREE_RANGE.stop} is taken",
        "Stop stacks that are no longer needed (make down)",
    )


def stack_ports(ports: Ports, app_ids: list[str]) -> dict[str, int]:
    """Every port of a stack by what it is for."""
    wanted = {
        "PostgreSQL": ports.postgres,
        "Kafka": ports.kafka,
        "Kafka's controller": ports.kafka_controller,
    }
    for index, app_id in enumerate(app_ids):
        wanted |= {
            app_id: ports.app(index),
            f"daprd (HTTP) of {app_id}": ports.dapr_http(index),
            f"daprd (gRPC) of {app_id}": ports.dapr_grpc(index),
            f"daprd (internal) of {app_id}": ports.dapr_internal(index),
            f"daprd (metrics) of {app_id}": ports.dapr_metrics(index),
        }
    return wanted


def _holder(port: int) -> str:
    try:
        listening = [c for c in psutil.net_connections("inet") if c.laddr and c.laddr.port == port]
    except psutil.AccessDenied:
        listening = []
    pid = next((c.pid for c in listening if c.pid and c.status == psutil.CONN_LISTEN), None)
    if pid is None:
        return "another process"
    try:
        process = psutil.Process(pid)
        return f"process {pid} ({' '.join(process.cmdline()[:3]) or process.name()})"
    except psutil.Error:
        return f"process {pid}"


def _suggestion(base: int) -> int:
    for candidate in range(base + 1000, 30_000, 1000):
        if all(bindable(candidate + offset) for offset in range(61)):
            return candidate
    return free_base()
