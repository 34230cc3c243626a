"""The environment that a container gets, and whether its service starts with it."""

import os
import re
from collections.abc import Iterator, Mapping
from unittest.mock import patch

from pydantic import ValidationError
from tests.deploy.invariants.project import SERVICES
from tests.deploy.objects import Container, Manifests, Metadata, Named, Shape, Workload

from chassis.settings import ServiceSettings, variable_of
from manifests import local_secrets

_OF_OTHERS = re.compile(r"OTEL_[A-Z_]+")
_LATER = local_secrets.made()
"""In place of what a secret store will hold: values of the right form."""


class _Key(Shape):
    secret_key: str


class _ExternalSecretSpec(Shape):
    target: Named
    data: list[_Key]


class _ExternalSecret(Shape):
    spec: _ExternalSecretSpec


class _Made(Shape):
    metadata: Metadata


def secrets_of(manifests: Manifests) -> Mapping[str, Mapping[str, str]]:
    """Every Secret there will be, whoever makes it; with values of the right form where they come later."""
    found: dict[str, Mapping[str, str]] = dict(manifests.secrets())
    for one in manifests.of("ExternalSecret", _ExternalSecret):
        name, keys = one.spec.target.name, [entry.secret_key for entry in one.spec.data]
        found[name] = {key: _LATER.get(name, {}).get(key, "") for key in keys}
    for user in manifests.of("KafkaUser", _Made):  # Strimzi's user operator
        found[user.metadata.name] = {"password": ""}
    for kafka in manifests.of("Kafka", _Made):
        found[f"{kafka.metadata.name}-cluster-ca-cert"] = {"ca.crt": ""}
    for cluster in manifests.of("Cluster", _Made):  # CloudNativePG
        found[f"{cluster.metadata.name}-ca"] = {"ca.crt": ""}
    return found


def environment_of(manifests: Manifests, owner: Workload, container: Container) -> dict[str, str]:
    """All its variables; those it refers to and nobody gives are left out."""
    maps, secrets, found = manifests.config_maps(), secrets_of(manifests), dict[str, str]()
    for source in container.env_from:
        if source.config_map_ref is not None:
            found |= maps.get(source.config_map_ref.name, {})
        if source.secret_ref is not None:
            found |= secrets.get(source.secret_ref.name, {})
    for variable in container.env:
        reference = variable.value_from.secret_key_ref if variable.value_from else None
        if reference is not None and reference.key in secrets.get(reference.name, {}):
            found[variable.name] = secrets[reference.name][reference.key]
        elif variable.value is not None:
            found[variable.name] = variable.value
    return found


def ours(manifests: Manifests) -> Iterator[tuple[Workload, Container]]:
    """Every container that runs an image of ours."""
    for owner in manifests.workloads():
        for container in owner.pod.spec.all_containers():
            if owner.service in SERVICES:
                yield owner, container


def unknown_variables(manifests: Manifests) -> Iterator[str]:
    """A setting that no service reads is a mistake in its name."""
    for owner, container in ours(manifests):
        settings = SERVICES[owner.service]
        known = {variable_of(settings, field) for field in settings.model_fields}
        for name in environment_of(manifests, owner, container).keys() - known:
            if not _OF_OTHERS.fullmatch(name):
                yield f"{owner}, {container.name}: {owner.service} reads no {name}"


def services_that_would_not_start(manifests: Manifests) -> Iterator[str]:
    """The real settings take the whole environment of each container, so none that is required is missing or wrong."""
    for owner, container in ours(manifests):
        environment = environment_of(manifests, owner, container)
        with patch.dict(os.environ, environment, clear=True):
            try:
                SERVICES[owner.service].model_validate({})
            except ValidationError as error:
                wrong = [_told(SERVICES[owner.service], problem["loc"], problem["msg"]) for problem in error.errors()]
                yield f"{owner}, {container.name}: {owner.service} would not start: {'; '.join(wrong)}"


def _told(settings: type[ServiceSettings], location: tuple[int | str, ...], message: str) -> str:
    field = str(location[0]) if location else ""
    return f"{variable_of(settings, field) if field in settings.model_fields else field} {message}"


def secrets_in_the_open(manifests: Manifests) -> Iterator[str]:
    """Secrets are referred to, never written into a pod or a ConfigMap."""
    secret = {
        variable_of(settings, field)
        for settings in SERVICES.values()
        for field, info in settings.model_fields.items()
        if re.search("Secret|PostgresDsn|ProxyKeys|DatabaseUrl", f"{info.annotation} {info.metadata}")
    }
    assert {"TASKWIRE_DATABASE_URL", "TASKWIRE_CURSOR_SECRET", "APP_API_TOKEN"} <= secret
    for name, data in manifests.config_maps().items():
        yield from (f"ConfigMap {name}: has {key}" for key in sorted(data.keys() & secret))
    for owner in manifests.workloads():
        for container in owner.pod.spec.all_containers():
            for variable in container.env:
                if variable.value is not None and (variable.name in secret or "PASSWORD" in variable.name):
                    yield f"{owner}, {container.name}: {variable.name} is written out"
        for key, value in owner.pod.metadata.annotations.items():
            if key == "dapr.io/env" and re.search("PASSWORD|TOKEN|SECRET", value):
                yield f"{owner}: {key} has a secret"


def references_to_nothing(manifests: Manifests) -> Iterator[str]:
    """Every ConfigMap, Secret and key that a pod or its sidecar asks for is there."""
    maps, secrets = manifests.config_maps(), secrets_of(manifests)
    for owner in manifests.workloads():
        yield from (f"{owner}: there is no ConfigMap {name}" for name in _maps_wanted(owner) if name not in maps)
        yield from (f"{owner}: there is no Secret {name}" for name in _secrets_wanted(owner) if name not in secrets)
        for name, key in _keys_wanted(owner):
            if key not in secrets.get(name, {}):
                yield f"{owner}: there is no key {key} in a Secret {name}"


def _maps_wanted(owner: Workload) -> Iterator[str]:
    for container in owner.pod.spec.all_containers():
        yield from (one.config_map_ref.name for one in container.env_from if one.config_map_ref)
    yield from (volume.config_map.name for volume in owner.pod.spec.volumes if volume.config_map)


def _secrets_wanted(owner: Workload) -> Iterator[str]:
    for container in owner.pod.spec.all_containers():
        yield from (one.secret_ref.name for one in container.env_from if one.secret_ref)
    yield from (volume.secret.secret_name for volume in owner.pod.spec.volumes if volume.secret)


def _keys_wanted(owner: Workload) -> Iterator[tuple[str, str]]:
    for container in owner.pod.spec.all_containers():
        for one in container.env:
            if one.value_from is not None and one.value_from.secret_key_ref is not None:
                yield one.value_from.secret_key_ref.name, one.value_from.secret_key_ref.key
    annotations = owner.pod.metadata.annotations
    for annotation in ("dapr.io/api-token-secret", "dapr.io/app-token-secret"):
        if annotation in annotations:
            yield annotations[annotation], "token"
    for entry in filter(None, annotations.get("dapr.io/env-from-secret", "").split(",")):
        name, _, key = entry.partition("=")[2].partition(":")
        yield name, key


def tokens_of_another_pair(manifests: Manifests) -> Iterator[str]:
    """App and sidecar of a pod have the same two tokens, which no other service has."""
    owners: dict[str, str] = {}
    for one in manifests.servers():
        annotations = one.pod.metadata.annotations
        given = {
            variable.name: variable.value_from.secret_key_ref.name
            for variable in one.pod.spec.containers[0].env
            if variable.value_from and variable.value_from.secret_key_ref
        }
        sidecar = {
            "DAPR_API_TOKEN": annotations.get("dapr.io/api-token-secret"),
            "APP_API_TOKEN": annotations.get("dapr.io/app-token-secret"),
        }
        if given != sidecar:
            yield f"{one}: the app has the tokens {given}, its sidecar {sidecar}"
        for name in given.values():
            if owners.setdefault(name, one.service) != one.service or list(given.values()).count(name) > 1:
                yield f"{one}: {name} is somebody else's token"
