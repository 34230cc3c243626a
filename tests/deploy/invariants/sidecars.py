"""Dapr: the cluster gets the files of components/, each sidecar what it must have, and nobody else anything."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import yaml
from pydantic import Field, JsonValue
from tests.deploy.invariants.environments import environment_of
from tests.deploy.invariants.project import CONSUMERS, SERVICES
from tests.deploy.objects import Manifests, Metadata, Shape, Workload

from devstack.kafka import TOPICS
from devstack.layout import REPOSITORY
from devstack.services import DEAD_LETTER_BYTES

ONLY_IN_CLUSTERS: Final = {
    ("Configuration", "taskwire"): {"spec.accessControl", "spec.tracing.otel"},
    ("Component", "pubsub"): {
        "auth",
        "spec.metadata[authType].value",
        "spec.metadata[disableTls].value",
        "spec.metadata[saslMechanism]",
        "spec.metadata[saslUsername]",
        "spec.metadata[saslPassword]",
        "spec.metadata[caCert]",
    },
}
"""What may differ from components/, or be there besides."""
_KINDS: Final = ("Component", "Configuration", "Resiliency", "Subscription", "HTTPEndpoint")
_MUST: Final = {
    "dapr.io/enabled": "true",
    "dapr.io/config": "taskwire",
    "dapr.io/log-as-json": "true",
    # docs/decisions/0004-the-consumer-gives-up-not-the-sidecar.md
    "dapr.io/enable-app-health-check": "false",
    # docs/decisions/0008-one-delivery-at-a-time.md
    "dapr.io/app-max-concurrency": "1",
    # docs/graceful-stop.md, Kubernetes
    "dapr.io/enable-native-sidecar": "false",
    "dapr.io/sidecar-listen-addresses": "127.0.0.1",
    "dapr.io/disable-builtin-k8s-secret-store": "true",
    "dapr.io/sidecar-seccomp-profile-type": "RuntimeDefault",
}


def drift(manifests: Manifests) -> Iterator[str]:
    """Dapr's resources are those of components/ and differ from them in what only a cluster has."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((REPOSITORY / "components").glob("*.yaml"))]
    native = {(str(file["kind"]), str(file["metadata"]["name"])): file for file in files if file["kind"] in _KINDS}
    in_cluster = {key for key in manifests.names() if key[0] in _KINDS}
    yield from (f"{kind} {name} is not in components/" for kind, name in sorted(in_cluster - native.keys()))
    for key, file in native.items():
        if key not in in_cluster:
            yield f"{key[0]} {key[1]} of components/ is not in the cluster"
            continue
        document = manifests.document(*key)
        parts = ("spec", "scopes", "auth")
        before = _flat({part: file[part] for part in parts if part in file})
        after = _flat({part: document[part] for part in parts if part in document})
        for path in sorted(before.keys() | after.keys()):
            allowed = any(
                path == one or path.startswith((one + ".", one + "[")) for one in ONLY_IN_CLUSTERS.get(key, ())
            )
            if before.get(path) != after.get(path) and not allowed:
                yield f"{key[0]} {key[1]}: {path} is {before.get(path)} in components/ and {after.get(path)} here"


def _flat(value: JsonValue, path: str = "") -> dict[str, JsonValue]:
    """Leaves by their paths; entries of a list by their names where they have them."""
    if isinstance(value, dict):
        inner = [(f"{path}.{key}".lstrip("."), one) for key, one in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[{_name(one, index)}]", one) for index, one in enumerate(value)]
    else:
        return {path: value}
    return {deep: leaf for at, one in inner for deep, leaf in _flat(one, at).items()}


def _name(entry: JsonValue, index: int) -> str:
    return str(entry["name"]) if isinstance(entry, dict) and "name" in entry else str(index)


class _Scoped(Shape):
    kind: str
    metadata: Metadata
    scopes: Sequence[str] = ()


def app_ids(manifests: Manifests) -> dict[str, Workload]:
    return {one.pod.metadata.annotations["dapr.io/app-id"]: one for one in manifests.servers()}


def open_to_all(manifests: Manifests) -> Iterator[str]:
    """Components and their resiliency are for apps that are named, and that are there."""
    for kind in ("Component", "Resiliency", "Subscription"):
        for one in manifests.of(kind, _Scoped):
            if not one.scopes:
                yield f"{kind} {one.metadata.name}: every app of the namespace may use it"
            for scope in one.scopes:
                if scope not in app_ids(manifests):
                    yield f"{kind} {one.metadata.name}: is for {scope}, which no Deployment is"


def invocable(manifests: Manifests) -> Iterator[str]:
    """No service calls another through Dapr, so no sidecar lets any in."""
    control = cast("Mapping[str, JsonValue]", manifests.document("Configuration", "taskwire")["spec"]).get(
        "accessControl"
    )
    if not isinstance(control, dict) or control.get("defaultAction") != "deny" or control.get("policies"):
        yield f"Configuration taskwire: others may call the apps: {control}"


def sidecars_unlike_the_native_ones(manifests: Manifests) -> Iterator[str]:
    """What was measured on the native stack holds here only with the same settings."""
    for one in manifests.servers():
        annotations = one.pod.metadata.annotations
        for name, value in _MUST.items():
            if annotations.get(name) != value:
                yield f"{one}: {name} is {annotations.get(name)} and has to be {value}"
        if annotations.get("dapr.io/app-id") != one.service or one.service not in SERVICES:
            yield f"{one}: its app id is {annotations.get('dapr.io/app-id')}"
        listens = environment_of(manifests, one, one.pod.spec.containers[0])["TASKWIRE_PORT"]
        if annotations.get("dapr.io/app-port") != listens:
            yield f"{one}: daprd calls port {annotations.get('dapr.io/app-port')}, the app listens on {listens}"
        largest = environment_of_sidecar(one).get("TASKWIRE_KAFKA_MAX_MESSAGE_BYTES")
        if (largest == str(DEAD_LETTER_BYTES)) != (one.service in CONSUMERS):
            yield f"{one}: its sidecar publishes records of up to {largest or 'the default number of'} bytes"


def environment_of_sidecar(one: Workload) -> dict[str, str]:
    entries = one.pod.metadata.annotations.get("dapr.io/env", "").split(",")
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def variables_nobody_gives_the_sidecar(manifests: Manifests) -> Iterator[str]:
    """What a component reads from the environment of daprd is in it; only the size of records has a default."""
    component = manifests.document("Component", "pubsub")
    wanted = {str(value) for path, value in _flat(component).items() if path.endswith(".envRef")}
    for one in manifests.servers():
        secret = one.pod.metadata.annotations.get("dapr.io/env-from-secret", "").split(",")
        given = environment_of_sidecar(one).keys() | {entry.partition("=")[0] for entry in secret}
        for name in sorted(wanted - given - {"TASKWIRE_KAFKA_MAX_MESSAGE_BYTES"}):
            yield f"{one}: its sidecar has no {name}"


class _TopicSpec(Shape):
    partitions: int
    config: dict[str, JsonValue] = Field(default_factory=dict)


class _Topic(Shape):
    metadata: Metadata
    spec: _TopicSpec


def topics_made(manifests: Manifests) -> dict[str, tuple[int, str | None]]:
    """Topics with their partitions and the largest record, made by Strimzi or by the Job of the local overlay."""
    found = {
        one.metadata.name: (one.spec.partitions, _text(one.spec.config.get("max.message.bytes")))
        for one in manifests.of("KafkaTopic", _Topic)
    }
    for job in manifests.of("Job", Workload):
        for line in "\n".join(job.pod.spec.containers[0].args).splitlines():
            words = line.split()
            if words[:1] == ["topic"] and len(words) > 2:
                largest = words[4].partition("=")[2] if words[3:4] == ["--config"] else None
                found[words[1]] = (int(words[2]), largest)
    return found


def _text(value: JsonValue) -> str | None:
    return None if value is None else str(value)


def topics_unlike_the_code(manifests: Manifests) -> Iterator[str]:
    """Names and partitions are those of libs/task-events, and dead letters may be larger than events."""
    wanted = {
        name: (partitions, str(DEAD_LETTER_BYTES) if name.endswith(".dead-letters") else None)
        for name, partitions in TOPICS.items()
    }
    made = topics_made(manifests)
    for name in sorted(wanted.keys() | made.keys()):
        if wanted.get(name) != made.get(name):
            yield f"topic {name}: {made.get(name)} is made, {wanted.get(name)} is needed"
