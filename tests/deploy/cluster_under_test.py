"""Taskwire in a cluster: deployed from overlays/local, reached from this machine, and disturbed."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx2
from tests.deploy.api_checks import changed, read
from tests.deploy.entrances import KAFKA_OUTSIDE, NAMESPACE, SERVICES, Entrance
from tests.deploy.invariants.admission import SIDECAR
from tests.deploy.rendering import Renderer

from cluster.kubectl import Kubectl, Manifest
from devstack.failures import ProvisionError
from devstack.tokens import make_token

OVERLAY: Final = "overlays/local"
_READY_WITHIN: Final = "600s"
LONGER_THAN_READY: Final = 660.0
_REACHABLE_WITHIN: Final = 90.0
_POLL: Final = 0.3


@dataclass(frozen=True)
class Deployed:
    """Taskwire, running.

    Attributes:
        kubectl: The cluster's administrator.
        entrance: How it is reached from here.
        secrets: Directory of what the overlay's Secrets are made of.
        seconds: From the first manifest until everything was ready.
    """

    kubectl: Kubectl
    entrance: Entrance
    secrets: Path
    seconds: float = 0

    @property
    def urls(self) -> Mapping[str, str]:
        """Base URL per service."""
        return {name: f"http://127.0.0.1:{self.entrance.port(name)}" for name in SERVICES}

    @property
    def databases(self) -> Mapping[str, str]:
        """Connection string per service, from here."""
        here = f"@127.0.0.1:{self.entrance.port('postgres')}/"
        return {name: self._secret(name)["TASKWIRE_DATABASE_URL"].replace("@postgres:5432/", here) for name in SERVICES}

    @property
    def kafka(self) -> str:
        """Bootstrap address of the broker, from here."""
        return f"127.0.0.1:{self.entrance.port('kafka')}"

    def until_reachable(self) -> None:
        """Wait until every service answers here: a cluster takes a moment to know who is ready.

        Raises:
            ProvisionError: One does not.
        """
        deadline = time.monotonic() + _REACHABLE_WITHIN
        for name, url in self.urls.items():
            while not _answers(f"{url}/health/ready"):
                if time.monotonic() > deadline:
                    raise ProvisionError(f"{name} cannot be reached", f"nobody answers at {url}", "Look at its pods")
                time.sleep(_POLL)

    def token(self, user: str, roles: Sequence[str] = ()) -> str:
        """A token that the services accept."""
        return make_token(self._secret("taskwire")["TASKWIRE_AUTH_HS256_SECRET"], user, roles)

    def _secret(self, name: str) -> Mapping[str, str]:
        lines = (self.secrets / f"{name}.env").read_text().splitlines()
        return dict(line.split("=", maxsplit=1) for line in lines if line)

    def wait(self, service: str) -> None:
        """Wait until as many pods of a service as there should be are of its newest version, and ready."""
        self.kubectl.run(
            "rollout", "status", f"deployment/{service}", "--namespace", NAMESPACE, f"--timeout={_READY_WITHIN}",
            timeout=LONGER_THAN_READY,
        )  # fmt: skip

    def whole(self, service: str, without: Collection[str] = ()) -> Mapping[str, Manifest]:
        """Wait until a service has the pods it should have, all of them ready, and none that was meant to go.

        Raises:
            ProvisionError: It takes too long.
        """
        wanted = self.kubectl.get("deployment", service, "--namespace", NAMESPACE)["spec"]["replicas"]
        deadline = time.monotonic() + LONGER_THAN_READY
        while True:
            pods = self.pods(service)
            ready = ready_among(pods)
            if len(pods) == len(ready) == wanted and not ready.keys() & without:
                return ready
            if time.monotonic() > deadline:
                names = [pod["metadata"]["name"] for pod in pods]
                raise ProvisionError(f"{service} is not whole again", f"there are {names}", "Look at its events")
            time.sleep(_POLL)

    def require_sidecars(self, service: str) -> None:
        """Look at each of its pods: one without a sidecar is as ready as any, publishes nothing and gets nothing.

        Raises:
            ProvisionError: One has none.
        """
        for pod in self.pods(service):
            if SIDECAR not in [container["name"] for container in pod["spec"]["containers"]]:
                name = pod["metadata"]["name"]
                raise ProvisionError(f"{name} has no sidecar", "Dapr's injector did not answer", "Look at its webhook")

    def ready(self, service: str) -> Mapping[str, Manifest]:
        """Its ready pods, as `ready_among` has them."""
        return ready_among(self.pods(service))

    def pods(self, service: str) -> list[Manifest]:
        """Its pods, whatever state they are in."""
        selected = f"app.kubernetes.io/name={service},app.kubernetes.io/component=server"
        return list(self.kubectl.get("pods", "--namespace", NAMESPACE, "--selector", selected)["items"])


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5, trust_env=False).is_success
    except httpx2.TransportError:
        return False


def ready_among(pods: Sequence[Manifest]) -> Mapping[str, Manifest]:
    """Ready pods by the id of the container of their app: what was ended never comes again under its id."""
    return {
        container["containerID"]: pod
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses", [])
        if container["name"] == "app" and _is_ready(pod)
    }


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def reachable(renderer: Renderer, entrance: Entrance) -> list[Manifest]:
    """The local overlay, and what lets this machine in: nothing of Taskwire's own is changed."""
    rendered = [
        _reachable(one, entrance.port("kafka")) if _is_kafka(one) else one for one in read(renderer.text(OVERLAY))
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


def deploy(deployed: Deployed, manifests: Sequence[Manifest]) -> Deployed:
    """Apply the manifests, and wait until every Job has ended well and every Deployment is ready.

    Raises:
        ProvisionError: Something was refused or did not become ready; what the pods say is in its notes.
    """
    kubectl = deployed.kubectl
    began = time.monotonic()
    kubectl.apply(manifests)
    try:
        for service in SERVICES:
            deployed.wait(service)
            deployed.require_sidecars(service)
        kubectl.run(
            "wait", "--for=condition=Complete", "jobs", "--all", "--namespace", NAMESPACE,
            f"--timeout={_READY_WITHIN}", timeout=LONGER_THAN_READY,
        )  # fmt: skip
    except ProvisionError as error:
        for line in story(kubectl):
            error.add_note(line)
        raise
    return replace(deployed, seconds=time.monotonic() - began)


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
        "KAFKA_LISTENERS": f",OUTSIDE://:{KAFKA_OUTSIDE}",
        "KAFKA_ADVERTISED_LISTENERS": f",OUTSIDE://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": ",OUTSIDE:PLAINTEXT",
    }
    for variable in environment:
        variable["value"] += added.get(variable["name"], "")
    return changed(kafka, path, environment)
