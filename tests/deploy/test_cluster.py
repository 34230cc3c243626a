"""Rung (c): Taskwire in a real cluster with Dapr's control plane, updated and killed while clients write.

The cluster is the one of `TASKWIRE_KUBE_CONTEXT`, with Dapr and our images already there, or else one node that is made
for it (tools/cluster) and is gone afterwards. `make test-k8s` runs it, and prints the table.
"""

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from tests.chaos.topic import Topic
from tests.deploy import next_release
from tests.deploy.asked import require_asked
from tests.deploy.cluster_under_test import OVERLAY, Deployed, deploy, images, reachable
from tests.deploy.disturbing import Disturber
from tests.deploy.entrances import NAMESPACE, SERVICES, Forwards, NodePorts
from tests.deploy.rendering import Renderer
from tests.deploy.retrying import ONE_ATTEMPT, PATIENCE
from tests.deploy.rolling import Disturbance, Load, Say, roll, table
from tests.deploy.telling import TOLD

from cluster import control_plane
from cluster.kubectl import Kubectl, Manifest
from cluster.node import Node, missing_packages
from cluster.programs import DAPR, NODE, missing
from cluster.settings import Home
from containers.docker import absent as absent_docker
from containers.docker import docker
from devstack.console import Console
from devstack.demo import Demo
from devstack.failures import ProvisionError
from devstack.layout import Layout
from devstack.polling import within

_RATE: Final = float(os.environ.get("RATE") or 10)


@pytest.fixture(scope="module")
def say(pytestconfig: pytest.Config) -> Say:
    """Tell whoever runs this: at once with `-s`, and in any case below everything else."""

    def tell(line: str) -> None:
        print(line)  # noqa: T201
        pytestconfig.stash.setdefault(TOLD, []).append(line)

    return tell


@pytest.fixture(scope="module")
def disturber(rendered: Renderer, say: Say) -> Iterator[Disturber]:
    """Taskwire in a cluster, and what can be done to it."""
    require_asked("in a cluster")
    cache = Layout.from_environment(dict(os.environ)).cache
    context = os.environ.get("TASKWIRE_KUBE_CONTEXT")
    with _given(context, rendered, say) if context else _made(cache, rendered, say) as one:
        yield one


@pytest.fixture(scope="module")
def deployed(disturber: Disturber) -> Deployed:
    """Taskwire in a cluster."""
    return disturber.deployed


@contextmanager
def _given(context: str, rendered: Renderer, say: Say) -> Iterator[Disturber]:
    """In the cluster that was named; its namespace must be free, and is removed afterwards."""
    program = shutil.which("kubectl")
    assert program is not None, "TASKWIRE_KUBE_CONTEXT needs kubectl on PATH"
    with tempfile.TemporaryDirectory() as cache:
        kubectl = Kubectl(Path(program), None, Path(cache), context)
        assert not kubectl.ask("get", "namespace", NAMESPACE).ok, f"{context} has a namespace {NAMESPACE} already"
        entrance = Forwards.to(kubectl)
        try:
            made = deploy(Deployed(kubectl, entrance, _secrets(rendered)), reachable(rendered, entrance))
            say(f"{context}: Taskwire ready after {made.seconds:.1f} s")
            say(f"{context} cannot be given images: updates bring the same release again")
            with entrance.open():
                made.until_reachable()
                yield Disturber(made, partial(_delete, kubectl), following=None)
        finally:
            kubectl.ask("delete", "namespace", NAMESPACE, timeout=300)
            for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
                kubectl.ask("delete", kind, "taskwire-sidecars")


@contextmanager
def _made(cache: Path, rendered: Renderer, say: Say) -> Iterator[Disturber]:
    """On one node of our own with Dapr's control plane, which is gone afterwards."""
    _require_all(cache)
    with tempfile.TemporaryDirectory(prefix="node-", ignore_cleanup_errors=True) as directory:
        node = Node(Home(Path(directory) / "n"), cache)
        try:
            say(f"a node of our own, Kubernetes {NODE[0].version}: Ready after {node.start(tied=True):.1f} s")
            entrance = NodePorts.among(node.node_ports)
            manifests = reachable(rendered, entrance)
            _load(node, images(manifests), say)
            following = next_release.rendered(rendered, OVERLAY)
            made = deploy(Deployed(node.kubectl, entrance, _secrets(rendered)), manifests)
            say(f"Taskwire ready after {made.seconds:.1f} s")
            with entrance.open():
                made.until_reachable()
                yield Disturber(made, node.kill, following)
        finally:
            if logs := os.environ.get("TASKWIRE_KEEP_NODE_LOGS"):
                for kept in (node.home.logs, node.home.pod_logs):
                    shutil.copytree(kept, Path(logs) / kept.name, dirs_exist_ok=True)
            node.stop()


def _secrets(rendered: Renderer) -> Path:
    return rendered.copy / "overlays" / "local" / "secrets"


def _delete(kubectl: Kubectl, pod: Manifest) -> None:
    """The nearest thing to a kill where only the API can be reached."""
    name = pod["metadata"]["name"]
    kubectl.run("delete", "pod", name, "--namespace", NAMESPACE, "--grace-period=0", "--force")


def _load(node: Node, wanted: Sequence[str], say: Say) -> None:
    if absent := [image for image in wanted if not _in_docker(image)]:
        pytest.skip(f"NOT CHECKED in a cluster: Docker has no {', '.join(absent)}; make images-local makes them")
    following = next_release.build_images(wanted)
    node.load_from_docker([*wanted, *following])
    next_release.remove_images(following)
    (sidecar,) = (image for image in wanted if "daprd" in image)
    say(f"Dapr's control plane {control_plane.version()} ready after {control_plane.install(node, sidecar, say):.1f} s")


def test_the_demo_runs_through_the_cluster(deployed: Deployed) -> None:
    user = "alice"
    token = deployed.token(user, ["auditor"])
    Demo(Console.on(sys.stdout), deployed.urls, user, token, "make token").play()


async def test_updates_and_kills_lose_double_and_reorder_nothing(disturber: Disturber, say: Say) -> None:
    deployed = disturber.deployed
    kinds = {
        "rolling update": disturber.update,
        "pod kill": disturber.kill,
        "drain": disturber.drain,
        "rollback": disturber.roll_back,
    }
    disturbances = [
        Disturbance(name, service, partial(do, service)) for service in SERVICES for name, do in kinds.items()
    ]
    # A killed pod answers nothing, not even that it is gone: who asked it waits for as long as an attempt takes.
    disturbances = [replace(one, settles=ONE_ATTEMPT + 1) if "kill" in one.name else one for one in disturbances]
    load = Load(deployed.urls["task-api"], deployed.token, _RATE)
    result = await roll(load, disturbances, deployed.databases, Topic(deployed.kafka, random.Random(7)), say)  # noqa: S311
    say(f"\n{table(result)}\n")
    assert not result.violations
    assert result.drained
    assert (load.tally.failed, load.ledger.lost, load.ledger.refused) == (0, 0, 0), "a retry did not absorb an error"
    assert len(load.ledger.acknowledged) > len(disturbances) * 10, "hardly anything was written"


async def test_while_the_injector_is_away_no_pod_comes_without_its_sidecar(disturber: Disturber) -> None:
    if disturber.following is None:
        pytest.skip("NOT CHECKED: what comes of pods while Dapr's injector is away, as it is not ours to stop")
    kubectl, deployed = disturber.deployed.kubectl, disturber.deployed
    injector = ("deployment/dapr-sidecar-injector", "--namespace", control_plane.NAMESPACE)
    before = deployed.whole("notifier")
    kubectl.run("scale", *injector, "--replicas=0")
    try:
        kubectl.run("wait", "--for=delete", "pod", "--selector=app=dapr-sidecar-injector", *injector[1:])
        for pod in before.values():
            kubectl.run("delete", "pod", pod["metadata"]["name"], "--namespace", NAMESPACE)

        async def refused() -> bool:
            said = kubectl.run("get", "events", "--namespace", NAMESPACE, "--field-selector=reason=FailedCreate")
            return "there is no sidecar in this pod" in said

        assert await within(PATIENCE, refused, 0.5)
        assert not deployed.pods("notifier")
    finally:
        kubectl.run("scale", *injector, "--replicas=1")
    deployed.whole("notifier", without=before)
    deployed.require_sidecars("notifier")


def _require_all(cache: Path) -> None:
    reasons = []
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        reasons.append("a node needs root on Linux")
    if absent := missing([*NODE, *DAPR], cache):
        reasons.append(f"not built: {', '.join(program.name for program in absent)} (make cluster-tools)")
    if why := absent_docker():
        reasons.append(f"Docker: {why} (apt-get install docker.io)")
    if packages := missing_packages():
        reasons.append(f"not installed: apt-get install --no-install-recommends {' '.join(packages)}")
    if reasons:
        pytest.skip(f"NOT CHECKED in a cluster: {'; '.join(reasons)}")


def _in_docker(image: str) -> bool:
    try:
        docker("image", "inspect", image, timeout=60)
    except ProvisionError:
        return False
    return True
