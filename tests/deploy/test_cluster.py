"""Rung (c): Taskwire in a real cluster with Dapr's control plane, updated and killed while clients write.

The cluster is the one of `TASKWIRE_KUBE_CONTEXT`, with Dapr and our images already there, or else one node that is made
for it (tools/cluster) and is gone afterwards. `make test-k8s` runs it, and prints the table.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from tests.chaos.topic import Topic
from tests.deploy.asked import require_asked
from tests.deploy.cluster_under_test import SERVICES, Deployed, NodePorts, deploy, images, manifests
from tests.deploy.rolling import Disturbance, Load, roll, table

from cluster import control_plane
from cluster.node import Node, missing_packages
from cluster.programs import DAPR, NODE, missing
from cluster.settings import Home
from devstack.console import Console
from devstack.demo import Demo
from devstack.layout import Layout
from manifests.kustomize import ensure_kustomize

_RATE: Final = float(os.environ.get("RATE") or 10)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """One node of our own with Dapr's control plane."""
    require_asked("in a cluster")
    cache = Layout.from_environment(dict(os.environ)).cache
    _require_all(cache)
    with tempfile.TemporaryDirectory(prefix="node-", ignore_cleanup_errors=True) as directory:
        made = Node(Home(Path(directory) / "n"), cache)
        try:
            _say(f"node Ready after {made.start(tied=True):.1f} s")
            yield made
        finally:
            if os.environ.get("TASKWIRE_KEEP_NODE_LOGS"):
                shutil.copytree(made.home.logs, os.environ["TASKWIRE_KEEP_NODE_LOGS"], dirs_exist_ok=True)
            made.stop()


@pytest.fixture(scope="module")
def deployed(node: Node) -> Deployed:
    """Taskwire on that node."""
    entrance = NodePorts.among(node.node_ports)
    rendered = manifests(ensure_kustomize(node.cache, _say), entrance)
    wanted = images(rendered)
    if absent := [image for image in wanted if not _in_docker(image)]:
        pytest.skip(f"NOT CHECKED in a cluster: Docker has no {', '.join(absent)}; make images-local makes them")
    node.load_from_docker(wanted)
    (sidecar,) = (image for image in wanted if "daprd" in image)
    _say(f"Dapr's control plane ready after {control_plane.install(node, sidecar, _say):.1f} s")
    made = deploy(node.kubectl, entrance, rendered)
    _say(f"Taskwire ready after {made.seconds:.1f} s")
    return made


def test_the_demo_runs_through_the_cluster(deployed: Deployed) -> None:
    user = "alice"
    token = deployed.token(user, ["auditor"])
    Demo(Console.on(sys.stdout), deployed.urls, user, token, "make token").play()


async def test_updates_and_kills_lose_double_and_reorder_nothing(deployed: Deployed) -> None:
    disturbances = [
        Disturbance(name, service, partial(do, service))
        for service in SERVICES
        for name, do in (("rolling update", deployed.restart), ("pod kill", deployed.kill))
    ]
    load = Load(deployed.urls["task-api"], deployed.token, _RATE)
    result = await roll(load, disturbances, deployed.databases, Topic(deployed.kafka, random.Random(7)), _say)  # noqa: S311
    _say(f"\n{table(result)}\n")
    assert not result.violations
    assert result.drained
    assert (load.tally.failed, load.ledger.lost, load.ledger.refused) == (0, 0, 0), "a retry did not absorb an error"
    assert len(load.ledger.acknowledged) > len(disturbances) * 10, "hardly anything was written"


def _require_all(cache: Path) -> None:
    reasons = []
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        reasons.append("a node needs root on Linux")
    if absent := missing([*NODE, *DAPR], cache):
        reasons.append(f"not built: {', '.join(program.name for program in absent)} (make cluster-tools)")
    packages = [*missing_packages(), *([] if shutil.which("docker") else ["docker.io"])]
    if packages:
        reasons.append(f"not installed: apt-get install --no-install-recommends {' '.join(packages)}")
    if reasons:
        pytest.skip(f"NOT CHECKED in a cluster: {'; '.join(reasons)}")


def _in_docker(image: str) -> bool:
    command = ["docker", "image", "inspect", image]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
