"""Dapr's control plane on a node: its images out of its own programs, its chart rendered by helm."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cluster import scratch_image
from cluster.custom_resources import apply_definitions, chart
from cluster.kubectl import Kubectl, Manifest
from cluster.node import Node
from cluster.programs import DAPR, found
from devstack.failures import ProvisionError

NAMESPACE: Final = "dapr-system"
REGISTRY: Final = "docker.io/daprio"
_PARTS: Final = ("operator", "sentry", "injector", "placement")
_READY_WITHIN: Final = "600s"
_INJECTS_WITHIN: Final = 300.0
_POLL: Final = 0.5
_TRIAL: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "trial",
        "namespace": "default",
        "annotations": {"dapr.io/enabled": "true", "dapr.io/app-id": "trial"},
    },
    "spec": {"containers": [{"name": "app", "image": "none"}]},
}
"""A pod that is never made."""

Progress = Callable[[str], None]


def version() -> str:
    """Of Dapr's control plane, without the v."""
    return next(program.version for program in DAPR if program.name == "operator").removeprefix("v")


def install(node: Node, sidecar: str, progress: Progress) -> float:
    """Install it and wait until all of it is ready; gives the seconds that took.

    Args:
        node: Where.
        sidecar: Image of the sidecar that it puts into pods, with its tag.
        progress: Told what is going on.

    Raises:
        ProvisionError: Something was refused, or did not become ready.
    """
    began = time.monotonic()
    programs = found(DAPR, node.cache)
    for part in _PARTS:
        archive = node.home.path / f"{part}.tar"
        image = f"{REGISTRY}/{part}:{version()}"
        node.load(scratch_image.write(archive, image, {f"/{part}": programs[part]}, [f"/{part}"]))
        archive.unlink()
    progress("Dapr's images are on the node")
    source = chart(node.cache, progress)
    kubectl = node.kubectl
    kubectl.run("create", "namespace", NAMESPACE)
    apply_definitions(kubectl, sorted((source / "crds").glob("*.yaml")))
    kubectl.run("apply", "--server-side", "-f", "-", given=_rendered(programs["helm"], source, sidecar))
    progress("Dapr's chart is applied")
    for kind in ("deployment", "statefulset"):
        waited = kubectl.ask(
            "rollout", "status", kind, "--namespace", NAMESPACE, f"--timeout={_READY_WITHIN}", timeout=700
        )
        if not waited.ok:
            raise ProvisionError("Dapr's control plane is not ready", waited.errors.strip(), "See its pods' logs")
    _await_sidecars(kubectl)
    return time.monotonic() - began


def _await_sidecars(kubectl: Kubectl) -> None:
    """Wait until pods get sidecars: for some moments after the injector is Ready its webhook is not reached yet."""
    deadline = time.monotonic() + _INJECTS_WITHIN
    while True:
        answer = kubectl.ask("create", "--dry-run=server", "--output=json", "-f", "-", given=json.dumps(_TRIAL))
        containers = json.loads(answer.output)["spec"]["containers"] if answer.ok else []
        if any(one["name"] == "daprd" for one in containers):
            return
        if time.monotonic() > deadline:
            why = answer.errors.strip() or "pods are made without one"
            raise ProvisionError("Dapr's injector gives pods no sidecar", why, "See its log")
        time.sleep(_POLL)


def _rendered(helm: Path, source: Path, sidecar: str) -> str:
    """Render the chart; the scheduler, for jobs that Taskwire has none of, is left out."""
    values = {
        "global.registry": REGISTRY,
        "global.tag": version(),
        "global.imagePullPolicy": "IfNotPresent",
        "global.scheduler.enabled": "false",
        "dapr_sidecar_injector.image.name": sidecar,
        "dapr_sidecar_injector.sidecarImagePullPolicy": "IfNotPresent",
        # Or sidecars would break the restricted standard of the namespaces they are put into.
        "dapr_sidecar_injector.sidecarDropALLCapabilities": "true",
    }
    chosen = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    done = subprocess.run(  # noqa: S603
        [str(helm), "template", "dapr", str(source), "--namespace", NAMESPACE, "--skip-tests", *chosen],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise ProvisionError("Dapr's chart could not be rendered", done.stderr.strip(), "See tools/cluster")
    return done.stdout
