"""What an operator does to a service that people use, and what happens to it without asking."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.deploy.cluster_under_test import LONGER_THAN_READY, Deployed, ready_among
from tests.deploy.entrances import NAMESPACE
from tests.deploy.next_release import LATER, NextRelease

from cluster.kubectl import Manifest
from devstack.failures import ProvisionError

_POLL: Final = 0.3
_WAITS: Final = "waiting for the schema"
_NOT_NOW: Final = "disruption budget"


@dataclass(frozen=True)
class Disturber:
    """Disturbs one service after the other.

    Attributes:
        deployed: Taskwire, running.
        end: Ends a pod without a word to it.
        following: What an update brings; None where its images cannot be brought into the cluster.
    """

    deployed: Deployed
    end: Callable[[Manifest], None]
    following: NextRelease | None

    def update(self, service: str) -> None:
        """Bring up the next release, and wait for the last old pod's end; its migration comes when pods wait for it.

        Without a next release all pods are replaced by their like.
        """
        before = self.deployed.whole(service)
        if self.following is None:
            self.deployed.kubectl.run("rollout", "restart", f"deployment/{service}", "--namespace", NAMESPACE)
        else:
            self.deployed.kubectl.apply(self.following.of(service, "Deployment"))
            self._until_one_waits(service)
            staying = {_name(pod) for pod in self.deployed.pods(service) if "deletionTimestamp" not in pod["metadata"]}
            assert {_name(pod) for pod in before.values()} <= staying, f"{service}: old pods went before the migration"
            self.deployed.kubectl.apply(self.following.of(service, "Job"))
        self.deployed.wait(service)
        self.deployed.whole(service, without=before)

    def roll_back(self, service: str) -> None:
        """Go back to the release before, on the schema of the next one."""
        before = self.deployed.whole(service)
        self.deployed.kubectl.run("rollout", "undo", f"deployment/{service}", "--namespace", NAMESPACE)
        self.deployed.wait(service)
        self.deployed.whole(service, without=before)
        images = {str(container["image"]) for pod in self.deployed.pods(service) for container in _containers(pod)}
        assert not [image for image in images if image.endswith(LATER)], f"{service} runs {images}"

    def kill(self, service: str) -> None:
        """End one pod of a service without a word to it, and wait for its successor."""
        before = self.deployed.whole(service)
        victim = min(before)
        self.end(before[victim])
        self.deployed.whole(service, without={victim})

    def drain(self, service: str) -> None:
        """Evict every pod of a service, as draining a node does: all at once, and again whenever the budget says no.

        Raises:
            ProvisionError: An eviction was refused for another reason, or the budget let two pods go at once.
        """
        before = self.deployed.whole(service)
        left = {_name(pod) for pod in before.values()}
        deadline = time.monotonic() + LONGER_THAN_READY
        while left:
            all_well = len(self.deployed.ready(service)) == len(before)
            gone = {name for name in sorted(left) if self._evicted(name)}
            if all_well and len(gone) > 1:
                raise ProvisionError(f"{service} lost {gone} at once", "the budget let them go", "Look at its PDB")
            left -= gone
            if time.monotonic() > deadline:
                raise ProvisionError(f"{service} cannot be drained", f"{left} may never go", "Look at its PDB")
            time.sleep(_POLL)
        self.deployed.whole(service, without=before)

    def _evicted(self, name: str) -> bool:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
        answer = self.deployed.kubectl.ask("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
        if not answer.ok and _NOT_NOW not in answer.errors:
            raise ProvisionError(f"{name} cannot be evicted", answer.errors.strip(), "Look at its PDB")
        return answer.ok

    def _until_one_waits(self, service: str) -> None:
        """Wait until a new pod says that it waits for its schema.

        Raises:
            ProvisionError: None does, or one did not wait.
        """
        deadline = time.monotonic() + LONGER_THAN_READY
        while True:
            new = [pod for pod in self.deployed.pods(service) if _is_next(pod)]
            if ready_among(new):
                raise ProvisionError(f"{service} did not wait", "a new pod is ready before its migration", "Look at it")
            if any(_WAITS in self._said_while_waiting(pod) for pod in new):
                return
            if time.monotonic() > deadline:
                raise ProvisionError(f"no new pod of {service} waits", f"there are {len(new)}", "Look at its events")
            time.sleep(_POLL)

    def _said_while_waiting(self, pod: Manifest) -> str:
        return self.deployed.kubectl.ask(
            "logs", _name(pod), "--namespace", NAMESPACE, "--container=wait-for-schema"
        ).output


def _is_next(pod: Manifest) -> bool:
    return any(str(container["image"]).endswith(LATER) for container in _containers(pod))


def _name(pod: Manifest) -> str:
    return str(pod["metadata"]["name"])


def _containers(pod: Manifest) -> Sequence[Manifest]:
    containers: Sequence[Manifest] = pod["spec"]["containers"]
    return containers
