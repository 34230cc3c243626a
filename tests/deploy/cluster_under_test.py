"""Taskwire in a cluster: deployed from overlays/local, reached from this machine, and disturbed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tests.deploy.api_checks import Manifest, changed, read

from cluster.kubectl import Kubectl
from devstack.failures import ProvisionError
from devstack.layout import REPOSITORY
from devstack.tokens import make_token
from manifests import local_secrets
from manifests.kustomize import Kustomize

SERVICES: Final = ("task-api", "audit-worker", "notifier")
NAMESPACE: Final = "taskwire"
OVERLAY: Final = REPOSITORY / "deploy" / "k8s" / "overlays" / "local"
_PORTS: Final[Mapping[str, int]] = {"task-api": 8000, "audit-worker": 8000, "notifier": 8000, "postgres": 5432}
_KAFKA_OUTSIDE: Final = 9094
_READY_WITHIN: Final = "600s"
_LONGER_THAN_THAT: Final = 660.0


class Entrance(Protocol):
    """How this machine's loopback address leads into a cluster."""

    def services(self) -> list[Manifest]:
        """What has to be in the cluster for it."""

    def port(self, name: str) -> int:
        """Port here of a service there."""


@dataclass(frozen=True)
class NodePorts:
    """Ports of the node that lead to the Services themselves, as kube-proxy has it: what clients of a cluster meet.

    Attributes:
        ports: By name of the Service.
    """

    ports: Mapping[str, int]

    @classmethod
    def among(cls, free: Sequence[int]) -> "NodePorts":
        """Give each service one of the free ports."""
        return cls(dict(zip([*_PORTS, "kafka"], free, strict=False)))

    def services(self) -> list[Manifest]:
        """A Service with a port of the node for each."""
        targets = {**_PORTS, "kafka": _KAFKA_OUTSIDE}
        return [_node_port(name, targets[name], port) for name, port in self.ports.items()]

    def port(self, name: str) -> int:
        """The same port here and there."""
        return self.ports[name]


def _node_port(name: str, target: int, port: int) -> Manifest:
    # A migration has the name of its service too.
    selector = {"app.kubernetes.io/name": name} | (
        {"app.kubernetes.io/component": "server"} if name in SERVICES else {}
    )
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


@dataclass(frozen=True)
class Deployed:
    """Taskwire, running.

    Attributes:
        kubectl: The cluster's administrator.
        entrance: How it is reached from here.
        seconds: From the first manifest until everything was ready.
    """

    kubectl: Kubectl
    entrance: Entrance
    seconds: float

    @property
    def urls(self) -> Mapping[str, str]:
        """Base URL per service."""
        return {name: f"http://127.0.0.1:{self.entrance.port(name)}" for name in SERVICES}

    @property
    def databases(self) -> Mapping[str, str]:
        """Connection string per service, from here."""
        here = f"@127.0.0.1:{self.entrance.port('postgres')}/"
        return {name: _secret(name)["TASKWIRE_DATABASE_URL"].replace("@postgres:5432/", here) for name in SERVICES}

    @property
    def kafka(self) -> str:
        """Bootstrap address of the broker, from here."""
        return f"127.0.0.1:{self.entrance.port('kafka')}"

    def token(self, user: str, roles: Sequence[str] = ()) -> str:
        """A token that the services accept."""
        return make_token(_secret("taskwire")["TASKWIRE_AUTH_HS256_SECRET"], user, roles)

    def restart(self, service: str) -> None:
        """Replace all pods of a service in good order, as any new version does."""
        self.kubectl.run("rollout", "restart", f"deployment/{service}", "--namespace", NAMESPACE)
        self.wait(service)

    def kill(self, service: str) -> None:
        """End one pod of a service without a word to it, as a node that dies does, and wait for its successor."""
        pods = self.kubectl.run(
            "get", "pods", "--namespace", NAMESPACE, "--output=name", "--field-selector=status.phase=Running",
            "--selector", f"app.kubernetes.io/name={service},app.kubernetes.io/component=server",
        ).split()  # fmt: skip
        self.kubectl.run("delete", pods[0], "--namespace", NAMESPACE, "--grace-period=0", "--force")
        self.wait(service)

    def wait(self, service: str) -> None:
        """Wait until all pods of a service are of its newest version, and ready."""
        self.kubectl.run(
            "rollout", "status", f"deployment/{service}", "--namespace", NAMESPACE, f"--timeout={_READY_WITHIN}",
            timeout=_LONGER_THAN_THAT,
        )  # fmt: skip


def manifests(kustomize: Kustomize, entrance: Entrance) -> list[Manifest]:
    """The local overlay, and what lets this machine in: nothing of Taskwire's own is changed."""
    local_secrets.write(OVERLAY / "secrets")
    rendered = [
        _reachable(one, entrance.port("kafka")) if _is_kafka(one) else one for one in read(kustomize.render(OVERLAY))
    ]
    return [*rendered, *entrance.services()]


def images(rendered: Sequence[Manifest]) -> list[str]:
    """Every image that the manifests name, that of the sidecars too."""
    found = set[str]()
    for one in rendered:
        template = one.get("spec", {}).get("template")
        if template is not None:
            found |= {
                str(c["image"]) for kind in ("containers", "initContainers") for c in template["spec"].get(kind, ())
            }
            found |= set(filter(None, [template["metadata"].get("annotations", {}).get("dapr.io/sidecar-image")]))
    return sorted(found)


def deploy(kubectl: Kubectl, entrance: Entrance, rendered: Sequence[Manifest]) -> Deployed:
    """Apply the manifests, and wait until every Job has ended well and every Deployment is ready.

    Raises:
        ProvisionError: Something was refused or did not become ready; what the pods say is in its notes.
    """
    began = time.monotonic()
    kubectl.apply(rendered)
    deployed = Deployed(kubectl, entrance, 0)
    try:
        for service in SERVICES:
            deployed.wait(service)
        kubectl.run(
            "wait", "--for=condition=Complete", "jobs", "--all", "--namespace", NAMESPACE,
            f"--timeout={_READY_WITHIN}", timeout=_LONGER_THAN_THAT,
        )  # fmt: skip
    except ProvisionError as error:
        for line in story(kubectl):
            error.add_note(line)
        raise
    return Deployed(kubectl, entrance, time.monotonic() - began)


def story(kubectl: Kubectl) -> Iterator[str]:
    """What is known of pods that are not as they should be."""
    yield kubectl.ask("get", "pods", "--all-namespaces", "--output=wide").output
    yield kubectl.ask("get", "events", "--namespace", NAMESPACE, "--sort-by=.lastTimestamp").output[-4000:]
    for service in SERVICES:
        selected = ("--selector", f"app.kubernetes.io/name={service}", "--all-containers", "--prefix", "--tail=15")
        yield kubectl.ask("logs", "--namespace", NAMESPACE, *selected).output


def _is_kafka(manifest: Manifest) -> bool:
    return (manifest["kind"], manifest["metadata"]["name"]) == ("StatefulSet", "kafka")


def _reachable(kafka: Manifest, port: int) -> Manifest:
    """Have the broker tell clients from outside another address than those inside."""
    path = "spec/template/spec/containers/0/env"
    environment = [dict(one) for one in kafka["spec"]["template"]["spec"]["containers"][0]["env"]]
    added = {
        "KAFKA_LISTENERS": f",OUTSIDE://:{_KAFKA_OUTSIDE}",
        "KAFKA_ADVERTISED_LISTENERS": f",OUTSIDE://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": ",OUTSIDE:PLAINTEXT",
    }
    for variable in environment:
        variable["value"] += added.get(variable["name"], "")
    return changed(kafka, path, environment)


def _secret(name: str) -> Mapping[str, str]:
    lines = (OVERLAY / "secrets" / f"{name}.env").read_text().splitlines()
    return dict(line.split("=", maxsplit=1) for line in lines if line)
