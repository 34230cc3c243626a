"""Ways to spoil an overlay: each is one edit of what kustomize made, and some check must notice it."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from pydantic import JsonValue
from tests.deploy.objects import Document, Manifests

Step = str | int
Check = Callable[[Manifests], Iterator[str]]

GONE: Final = object()
"""In place of a value: takes the field away."""
LOCAL: Final = "overlays/local"
PRODUCTION: Final = "overlays/production"

POD: Final = ("spec", "template", "spec")
APP: Final = (*POD, "containers", 0)
ANNOTATIONS: Final = ("spec", "template", "metadata", "annotations")


@dataclass(frozen=True)
class Breakage:
    """One edit.

    Attributes:
        why: What would go wrong in a cluster, in words; the test's name.
        check: Who must notice.
        kind: Of the object.
        name: Of the object; of a ConfigMap without the hash.
        path: To the field, in names and places.
        value: What it becomes; `GONE` for nothing, the whole object where the path is empty.
        overlay: Which one is spoilt.
        told: A part of what the check must say.
    """

    why: str
    check: Check
    kind: str
    name: str
    path: tuple[Step, ...]
    value: object
    overlay: str = PRODUCTION
    told: str = ""

    def applied(self, manifests: Manifests) -> Manifests:
        """A copy of the manifests with the edit."""
        documents = copy.deepcopy(list(manifests.documents))
        index = next(place for place, one in enumerate(documents) if self._is_meant(one))
        if not self.path:
            if self.value is GONE:
                del documents[index]
            else:
                documents.append(cast("Document", self.value))
            return Manifests(documents)
        node: JsonValue = documents[index]
        for step in self.path[:-1]:
            node = _inner(node, step)
        _put(node, self.path[-1], self.value)
        return Manifests(documents)

    def _is_meant(self, document: Document) -> bool:
        name = str(cast("Document", document["metadata"])["name"])
        same = name == self.name or (self.kind == "ConfigMap" and name.rpartition("-")[0] == self.name)
        return document["kind"] == self.kind and same


def _inner(node: JsonValue, step: Step) -> JsonValue:
    if isinstance(node, list):
        assert isinstance(step, int)
        return node[step]
    assert isinstance(node, dict), f"nothing is in {node}"
    assert isinstance(step, str)
    return node.setdefault(step, {})


def _put(node: JsonValue, step: Step, value: object) -> None:
    if isinstance(node, list):
        assert isinstance(step, int)
        if value is GONE:
            del node[step]
        elif step == len(node):
            node.append(cast("JsonValue", value))
        else:
            node[step] = cast("JsonValue", value)
        return
    assert isinstance(node, dict)
    assert isinstance(step, str)
    if value is GONE:
        del node[step]
    else:
        assert node.get(step) != value, f"{step} is {value} already"
        node[step] = cast("JsonValue", value)
