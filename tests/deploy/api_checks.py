"""What an API server says to manifests: which kinds it knows, and what it refuses."""

import copy
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml

from cluster.kubectl import Answer, Kubectl, Manifest, as_stream

WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")
_RESTRICTED: Final = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


class Gone:
    """In place of a value: the field is taken away."""


def read(rendered: str) -> list[Manifest]:
    """The documents of a rendered overlay."""
    return [document for document in yaml.safe_load_all(rendered) if document]


def kinds(kubectl: Kubectl) -> set[tuple[str, str]]:
    """API version and kind of everything that a server knows."""
    rows = [line.split() for line in kubectl.run("api-resources", "--no-headers").splitlines()]
    return {(row[-3], row[-1]) for row in rows}


def strict_dry_run(kubectl: Kubectl, manifests: Sequence[Manifest]) -> Answer:
    """Have the server say what it would do, fields it does not know being errors; nothing is changed."""
    return kubectl.ask("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=as_stream(manifests))


def make_namespaces(kubectl: Kubectl, manifests: Iterable[Manifest]) -> None:
    """Make the namespaces of manifests, with Pod Security at its strictest whatever the manifests say of it."""
    for name in sorted({one["metadata"].get("namespace", "default") for one in manifests}):
        metadata = {"name": name, "labels": _RESTRICTED}
        kubectl.run(
            "apply", "-f", "-", given=as_stream([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        )


def pods(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Every pod that workloads would make, as one of its own: of a Deployment, Pod Security refuses nothing."""
    return [pod_of(one) for one in manifests if one["kind"] in WORKLOADS]


def pod_of(workload: Manifest) -> Manifest:
    """The pod that a workload would make."""
    template = copy.deepcopy(workload["spec"]["template"])
    metadata = {**template["metadata"], "namespace": workload["metadata"]["namespace"]}
    metadata["name"] = f"{workload['metadata']['name']}-of-{workload['kind'].lower()}"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def changed(manifest: Manifest, path: str, value: object) -> Manifest:
    """A manifest with one field set, or taken away with `Gone`; the path is a JSON pointer (RFC 6901)."""
    result = copy.deepcopy(manifest)
    *steps, last = (step.replace("~1", "/") for step in path.split("/"))
    place: Any = result
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    key: Any = int(last) if isinstance(place, list) else last
    if value is Gone:
        del place[key]
    else:
        place[key] = value
    assert result != manifest, f"{path} is {json.dumps(value, default=str)} already: nothing is broken"
    return result
