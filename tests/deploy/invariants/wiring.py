"""Who chooses whom by labels, and which paths lead in from outside."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

import yaml
from pydantic import Field
from tests.deploy.invariants.project import SERVICES, routes_of
from tests.deploy.objects import Labels, Manifests, Metadata, Selector, Shape, Workload

from devstack.layout import REPOSITORY

INSIDE: Final = (
    "/health/live",
    "/health/ready",
    "/metrics",
    "/internal/api-keys/introspect",
    "/internal/engagements/membership",
    "/dapr/subscribe",
    "/dapr/config",
    "/events/tasks/bulk",
    "/events/dead-letters",
    "/events/accounts",
)
"""What no path of an Ingress may lead to."""


class _ServicePort(Shape):
    name: str = ""
    port: int
    target_port: int | str = ""


class _ServiceSpec(Shape):
    selector: Labels
    ports: Sequence[_ServicePort]


class Service(Shape):
    metadata: Metadata
    spec: _ServiceSpec


class _PortReference(Shape):
    name: str


class _BackendService(Shape):
    name: str
    port: _PortReference


class _Backend(Shape):
    service: _BackendService


class _Path(Shape):
    path: str
    path_type: str
    backend: _Backend

    def leads(self, path: str) -> bool:
        if self.path_type == "Exact":
            return path == self.path
        return path == self.path.rstrip("/") or path.startswith(self.path.rstrip("/") + "/")


class _Http(Shape):
    paths: Sequence[_Path]


class _Rule(Shape):
    host: str
    http: _Http


class _Tls(Shape):
    hosts: Sequence[str]


class _IngressSpec(Shape):
    rules: Sequence[_Rule]
    tls: Sequence[_Tls] = ()


class Ingress(Shape):
    metadata: Metadata
    spec: _IngressSpec


class _Relabeling(Shape):
    target_label: str = ""
    replacement: str = ""


class _Endpoint(Shape):
    port: str
    relabelings: Sequence[_Relabeling] = ()

    def job(self) -> str | None:
        return next((one.replacement for one in self.relabelings if one.target_label == "job"), None)


class _MonitorSpec(Shape):
    selector: Selector
    job_label: str = ""
    endpoints: Sequence[_Endpoint] = Field((), alias="podMetricsEndpoints")


class _Monitor(Shape):
    metadata: Metadata
    spec: _MonitorSpec


def chosen_by(manifests: Manifests, service: Service) -> list[Workload]:
    return [one for one in manifests.workloads() if service.spec.selector.items() <= one.pod.metadata.labels.items()]


def selectors_that_miss(manifests: Manifests) -> Iterator[str]:
    """A workload finds its own pods and no other's; a Service leads to one kind of pods and to a port they have."""
    workloads = manifests.workloads()
    for one in workloads:
        if one.kind == "Job":
            continue
        selector = one.spec.selector
        if selector is None or not selector.match_labels or not selector.matches(one.pod.metadata.labels):
            yield f"{one}: does not find its own pods"
        elif any(selector.matches(other.pod.metadata.labels) for other in workloads if other is not one):
            yield f"{one}: takes pods of others for its own"
    for service in manifests.of("Service", Service):
        chosen = chosen_by(manifests, service)
        if len(chosen) != 1:
            yield f"Service {service.metadata.name}: leads to {[str(one) for one in chosen]}"
            continue
        has = {port.name for container in chosen[0].pod.spec.containers for port in container.ports}
        for port in service.spec.ports:
            if port.target_port not in has:
                yield f"Service {service.metadata.name}: leads to the port {port.target_port}, which is not there"


def accounts_of_nobody(manifests: Manifests) -> Iterator[str]:
    """Each of our pods has the account of its service, which is there."""
    there = {name for kind, name in manifests.names() if kind == "ServiceAccount"}
    for one in manifests.workloads():
        account = one.pod.spec.service_account_name
        if one.service in SERVICES and (account != one.service or account not in there):
            yield f"{one}: runs as {account}"


def paths_that_lead_wrong(manifests: Manifests) -> Iterator[str]:
    """All of each API is reached from outside by https, and nothing that is for sidecars, probes and Prometheus."""
    ingresses = manifests.of("Ingress", Ingress)
    services = {one.metadata.name: one for one in manifests.of("Service", Service)}
    for one in ingresses:
        secured = {host for tls in one.spec.tls for host in tls.hosts}
        for rule in one.spec.rules:
            if rule.host not in secured:
                yield f"Ingress {one.metadata.name}: {rule.host} is reached without TLS"
            for path in rule.http.paths:
                backend = path.backend.service
                ports = [port.name for port in services[backend.name].spec.ports] if backend.name in services else []
                if backend.port.name not in ports:
                    yield f"Ingress {one.metadata.name}: {path.path} leads to nothing"
            paths = rule.http.paths
            yield from (
                f"Ingress {one.metadata.name}: leads to {path}"
                for path in INSIDE
                if any(candidate.leads(path) for candidate in paths)
            )
    for service in SERVICES if ingresses else ():
        mine = [
            path
            for one in ingresses
            for rule in one.spec.rules
            for path in rule.http.paths
            if path.backend.service.name == service
        ]
        for route in sorted(routes_of(service)):
            if route.startswith("/api/") and not any(path.leads(route) for path in mine):
                yield f"no Ingress leads to {route} of {service}"


def ports_nobody_scrapes(manifests: Manifests) -> Iterator[str]:
    """Prometheus finds every server by its labels, and the ports by the names they have in the pod."""
    for monitor in manifests.of("PodMonitor", _Monitor):
        for one in manifests.servers():
            if not monitor.spec.selector.matches(one.pod.metadata.labels):
                yield f"PodMonitor {monitor.metadata.name}: does not find {one}"
            # The second is what Dapr's injector calls its own.
            has = {port.name for container in one.pod.spec.containers for port in container.ports} | {"dapr-metrics"}
            for name in sorted({endpoint.port for endpoint in monitor.spec.endpoints} ^ has):
                yield f"PodMonitor {monitor.metadata.name}: the port {name} is not scraped, or not there"


def jobs_the_alerts_do_not_know(manifests: Manifests) -> Iterator[str]:
    """Targets are of the jobs that rules and dashboards ask for: those of the Prometheus of docker compose."""
    known = yaml.safe_load((REPOSITORY / "deploy/observability/prometheus/prometheus.yml").read_text())
    wanted = {str(one["job_name"]) for one in known["scrape_configs"]}
    for monitor in manifests.of("PodMonitor", _Monitor):
        by_label = {one.pod.metadata.labels.get(monitor.spec.job_label, "none") for one in manifests.servers()}
        made = {job for one in monitor.spec.endpoints for job in ([one.job()] if one.job() else by_label)}
        if made != wanted:
            yield f"PodMonitor {monitor.metadata.name}: the jobs are {sorted(map(str, made))}, wanted: {sorted(wanted)}"


class _Acl(Shape):
    resource: "_Resource"
    operations: Sequence[str]


class _Resource(Shape):
    type: str
    name: str


class _Authorization(Shape):
    acls: Sequence[_Acl]


class _UserSpec(Shape):
    authorization: _Authorization


class _User(Shape):
    metadata: Metadata
    spec: _UserSpec


def rights_at_the_broker(manifests: Manifests) -> Iterator[str]:
    """Kafka lets each service do what the scopes of the component say, and its own consumer group, no more."""
    metadata = manifests.document("Component", "pubsub")["spec"]
    scopes = json.loads(json.dumps(metadata))["metadata"]
    values = {entry["name"]: entry.get("value", "") for entry in scopes}
    for user in manifests.of("KafkaUser", _User):
        service = user.metadata.name.removesuffix("-kafka")
        acls = user.spec.authorization.acls
        for name, operation in (("publishingScopes", "Write"), ("subscriptionScopes", "Read")):
            allowed = dict(part.split("=") for part in values[name].split(";"))[service].split(",")
            given = [acl.resource.name for acl in acls if operation in acl.operations and acl.resource.type == "topic"]
            if sorted(allowed) != sorted(given):
                yield f"KafkaUser {user.metadata.name}: {operation} {sorted(given)}, and {name} says {sorted(allowed)}"
        groups = [acl.resource.name for acl in acls if acl.resource.type == "group"]
        if groups != [service]:
            yield f"KafkaUser {user.metadata.name}: may be of the groups {groups}"
