"""Kubernetes objects, as much of them as the invariants look at; what is not named here goes unseen."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter
from pydantic.alias_generators import to_camel
from typing_extensions import override

Labels = dict[str, str]
Document = dict[str, JsonValue]
_documents = TypeAdapter(list[Document])


class Shape(BaseModel):
    """A part of an object; fields are read by their names in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class Metadata(Shape):
    name: str = ""
    namespace: str | None = None
    labels: Labels = {}
    annotations: dict[str, str] = {}


class KeyReference(Shape):
    name: str
    key: str


class Named(Shape):
    name: str


class ValueFrom(Shape):
    secret_key_ref: KeyReference | None = None


class Variable(Shape):
    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class VariablesFrom(Shape):
    config_map_ref: Named | None = None
    secret_ref: Named | None = None


class HttpGet(Shape):
    path: str
    port: str | int


class Probe(Shape):
    http_get: HttpGet | None = None
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3


class Port(Shape):
    name: str = ""
    container_port: int


class Mount(Shape):
    name: str
    mount_path: str
    read_only: bool = False


class Capabilities(Shape):
    add: Sequence[str] = ()
    drop: Sequence[str] = ()


class Seccomp(Shape):
    type: str


class SecurityContext(Shape):
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    privileged: bool = False
    allow_privilege_escalation: bool | None = None
    read_only_root_filesystem: bool = False
    capabilities: Capabilities = Capabilities()
    seccomp_profile: Seccomp | None = None


class Resources(Shape):
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Container(Shape):
    name: str
    image: str
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Sequence[Variable] = ()
    env_from: Sequence[VariablesFrom] = ()
    ports: Sequence[Port] = ()
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: JsonValue = None
    resources: Resources = Resources()
    security_context: SecurityContext = SecurityContext()
    volume_mounts: Sequence[Mount] = ()
    image_pull_policy: str = ""


class SecretSource(Shape):
    secret_name: str


class Volume(Shape):
    name: str
    empty_dir: JsonValue = None
    secret: SecretSource | None = None
    config_map: Named | None = None
    host_path: JsonValue = None


class PodSpec(Shape):
    service_account_name: str = "default"
    automount_service_account_token: bool = True
    enable_service_links: bool = True
    termination_grace_period_seconds: int = 30
    security_context: SecurityContext = SecurityContext()
    containers: Sequence[Container]
    init_containers: Sequence[Container] = ()
    volumes: Sequence[Volume] = ()

    def all_containers(self) -> Sequence[Container]:
        return [*self.init_containers, *self.containers]


class Selector(Shape):
    match_labels: Labels = {}
    match_expressions: Sequence["Expression"] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.match_labels.items() <= labels.items() and all(one.holds(labels) for one in self.match_expressions)


class Expression(Shape):
    key: str
    operator: Annotated[str, Field(pattern="^In$")]  # the only one we use; another one shall not pass unseen
    values: Sequence[str]

    def holds(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) in self.values


class Pod(Shape):
    metadata: Metadata
    spec: PodSpec


class RollingUpdate(Shape):
    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


class Strategy(Shape):
    rolling_update: RollingUpdate = RollingUpdate()


class WorkloadSpec(Shape):
    replicas: int | None = None
    selector: Selector | None = None
    strategy: Strategy = Strategy()
    template: Pod


class Workload(Shape):
    """A Deployment, a StatefulSet or a Job."""

    kind: str
    metadata: Metadata
    spec: WorkloadSpec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def pod(self) -> Pod:
        return self.spec.template

    @property
    def service(self) -> str:
        """Which of our services its pods belong to."""
        return self.pod.metadata.labels.get("app.kubernetes.io/name", "")

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


ShapeT = TypeVar("ShapeT", bound=Shape)


@dataclass(frozen=True)
class Manifests:
    """Everything an overlay makes."""

    documents: Sequence[Document]

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(_documents.validate_python(list(yaml.load_all(text, yaml.CSafeLoader))))

    def of(self, kind: str, shape: type[ShapeT]) -> list[ShapeT]:
        return [shape.model_validate(document) for document in self.documents if document["kind"] == kind]

    def workloads(self) -> list[Workload]:
        return [one for kind in ("Deployment", "StatefulSet", "Job") for one in self.of(kind, Workload)]

    def servers(self) -> list[Workload]:
        """The Deployments of our services."""
        return [one for one in self.of("Deployment", Workload) if component_of(one) == "server"]

    def migrations(self) -> list[Workload]:
        return [one for one in self.of("Job", Workload) if component_of(one) == "migration"]

    def config_maps(self) -> dict[str, dict[str, str]]:
        return {one.metadata.name: one.data for one in self.of("ConfigMap", _Data)}

    def secrets(self) -> dict[str, dict[str, str]]:
        """What is in the Secrets an overlay brings along, decoded."""
        return {
            one.metadata.name: {key: base64.b64decode(value).decode() for key, value in one.data.items()}
            for one in self.of("Secret", _Data)
        }

    def document(self, kind: str, name: str) -> Document:
        """The one object of a name; of the kind `Component` that is Dapr's."""
        found = [one for one in self.documents if one["kind"] == kind and self._name(one) == name]
        assert len(found) == 1, f"there are {len(found)} of {kind} {name}"
        return found[0]

    @staticmethod
    def _name(document: Document) -> str:
        return Metadata.model_validate(document["metadata"]).name

    def names(self) -> Iterator[tuple[str, str]]:
        """Kind and name of everything."""
        for document in self.documents:
            yield str(document["kind"]), self._name(document)


class _Data(Shape):
    metadata: Metadata
    data: dict[str, str] = {}


def component_of(workload: Workload) -> str:
    return workload.pod.metadata.labels.get("app.kubernetes.io/component", "")
