"""Every object is one that an API server of Kubernetes 1.34 takes, as far as schemas say it.

Operators' own objects are looked at where their schemas come along (Dapr's do); for the others ask a server
(`test_api_server.py`).
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import jsonschema
import kubernetes_validate
import pytest
from pydantic import JsonValue
from tests.deploy.dapr_source import Schema, annotations, dapr_source, schemas
from tests.deploy.objects import Document, Manifests
from tests.deploy.rendering import OVERLAYS, Renderer

from devstack.failures import ProvisionError
from devstack.layout import Layout

KUBERNETES: Final = "1.34"
OF_OPERATORS: Final = {
    "kafka.strimzi.io",
    "postgresql.cnpg.io",
    "keda.sh",
    "monitoring.coreos.com",
    "external-secrets.io",
}
"""Groups whose schemas are not at hand here."""
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture(scope="session")
def source() -> Path:
    try:
        return dapr_source(Layout.from_environment(dict(os.environ)).cache)
    except (ProvisionError, subprocess.SubprocessError) as error:
        pytest.skip(f"NOT CHECKED: what Dapr's source says of its resources; its Go module is not to be had ({error})")


@pytest.fixture(scope="session")
def of_dapr(source: Path) -> Mapping[tuple[str, str], Schema]:
    return schemas(source)


def group_of(document: Document) -> str:
    return str(document["apiVersion"]).rpartition("/")[0]


def refused(document: Document, of_dapr: Mapping[tuple[str, str], Schema]) -> Iterator[str]:
    told = f"{document['kind']} {document['metadata']}"
    if group_of(document) == "dapr.io":
        schema = of_dapr.get((str(document["apiVersion"]), str(document["kind"])))
        if schema is None:
            yield f"{told}: Dapr has no such kind"
            return
        body = {name: part for name, part in document.items() if name != "metadata"}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(body):
            yield f"{told}: {error.json_path}: {error.message}"
        return
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{told}: {error.message}"


def known(manifests: Manifests) -> list[Document]:
    return [one for one in manifests.documents if group_of(one) not in OF_OPERATORS]


@every_overlay
def test_every_object_is_of_its_schema(
    rendered: Renderer, overlay: str, of_dapr: Mapping[tuple[str, str], Schema]
) -> None:
    documents = known(rendered(overlay))
    assert {"Deployment", "NetworkPolicy", "Job", "Component", "Configuration", "Resiliency"} <= {
        one["kind"] for one in documents
    }
    assert not [problem for one in documents for problem in refused(one, of_dapr)]


@every_overlay
def test_every_annotation_is_one_that_dapr_reads(rendered: Renderer, overlay: str, source: Path) -> None:
    known = annotations(source)
    assert {"dapr.io/app-id", "dapr.io/block-shutdown-duration"} <= known
    servers = rendered(overlay).servers()
    assert servers
    for one in servers:
        given = {name for name in one.pod.metadata.annotations if name.startswith("dapr.io/")}
        assert given <= known, f"{one}: Dapr reads no {sorted(given - known)}"


@pytest.mark.parametrize(
    ("kind", "name", "field", "value"),
    [
        ("Deployment", "task-api", "replica", 2),
        ("Service", "task-api", "ports", [{"port": "http"}]),
        ("HorizontalPodAutoscaler", "task-api", "maxReplicas", "six"),
        ("NetworkPolicy", "dns", "egresses", []),
        ("Component", "pubsub", "ignoreError", False),
        ("Component", "pubsub", "metadata", [{"value": "x"}]),
        ("Configuration", "taskwire", "tracings", {}),
        ("Resiliency", "taskwire", "targets", {"components": {"pubsub": {"inbound": {"retries": "delivery"}}}}),
    ],
)
def test_a_field_that_is_wrong_is_refused(
    rendered: Renderer,
    of_dapr: Mapping[tuple[str, str], Schema],
    kind: str,
    name: str,
    field: str,
    value: JsonValue,
) -> None:
    whole = rendered("overlays/production").document(kind, name)
    spec = whole["spec"]
    assert isinstance(spec, dict)
    assert list(refused(whole | {"spec": spec | {field: value}}, of_dapr))
