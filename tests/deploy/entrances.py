"""How this machine's loopback address leads into a cluster."""

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

from cluster.kubectl import Kubectl, Manifest
from devstack.ports import free_base

SERVICES: Final = ("task-api", "audit-worker", "notifier")
NAMESPACE: Final = "taskwire"
KAFKA_OUTSIDE: Final = 9094
"""Where the broker listens for clients to whom it has to tell another address than to those in the cluster."""

_TARGETS: Final[Mapping[str, int]] = {**dict.fromkeys(SERVICES, 8000), "postgres": 5432, "kafka": KAFKA_OUTSIDE}
_AGAIN_AFTER: Final = 0.2


class Entrance(Protocol):
    """A way in."""

    def services(self) -> list[Manifest]:
        """What has to be in the cluster for it."""

    def port(self, name: str) -> int:
        """Port here of a service there."""

    def open(self) -> AbstractContextManager[None]:
        """Let traffic in, for as long as the block takes."""


@dataclass(frozen=True)
class NodePorts:
    """Ports of the node that lead to Services as kube-proxy has it: as clients in a cluster reach them.

    Attributes:
        ports: By name of the Service.
    """

    ports: Mapping[str, int]

    @classmethod
    def among(cls, free: Sequence[int]) -> "NodePorts":
        """Give each service one of the free ports."""
        return cls(dict(zip(_TARGETS, free, strict=False)))

    def services(self) -> list[Manifest]:
        """A Service with a port of the node for each."""
        return [_node_port(name, _TARGETS[name], port) for name, port in self.ports.items()]

    def port(self, name: str) -> int:
        """The same port here and there."""
        return self.ports[name]

    def open(self) -> AbstractContextManager[None]:
        """Open from the start."""
        return nullcontext()


@dataclass(frozen=True)
class Forwards:
    """`kubectl port-forward`, begun again whenever it ends: for a cluster of which only the API can be reached.

    Attributes:
        kubectl: The cluster.
        ports: By name of the Service.
    """

    kubectl: Kubectl
    ports: Mapping[str, int]

    @classmethod
    def to(cls, kubectl: Kubectl) -> "Forwards":
        """Choose free ports."""
        base = free_base(last_offset=len(_TARGETS))
        return cls(kubectl, {name: base + offset for offset, name in enumerate(_TARGETS)})

    def services(self) -> list[Manifest]:
        """Nothing."""
        return []

    def port(self, name: str) -> int:
        """The port that is forwarded."""
        return self.ports[name]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Forward all of them."""
        over = threading.Event()
        threads = [threading.Thread(target=self._forward, args=(name, over)) for name in self.ports]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _forward(self, name: str, over: threading.Event) -> None:
        # A Service has no port for clients from outside; its pod does.
        what = f"statefulset/{name}" if name == "kafka" else f"service/{name}"
        pair = f"{self.ports[name]}:{_TARGETS[name]}"
        command = self.kubectl.command("port-forward", "--namespace", NAMESPACE, "--address=127.0.0.1", what, pair)
        while not over.is_set():
            quiet = subprocess.DEVNULL
            with subprocess.Popen(command, env=self.kubectl.environment(), stdout=quiet, stderr=quiet) as process:
                while process.poll() is None and not over.wait(_AGAIN_AFTER):
                    pass
                process.terminate()
            over.wait(_AGAIN_AFTER)


def _node_port(name: str, target: int, port: int) -> Manifest:
    # A migration has the name of its service too.
    server = {"app.kubernetes.io/component": "server"} if name in SERVICES else {}
    selector = {"app.kubernetes.io/name": name, **server}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-outside", "namespace": NAMESPACE},
        "spec": {
            "type": "NodePort",
            "selector": selector,
            "ports": [{"port": target, "targetPort": target, "nodePort": port}],
        },
    }
