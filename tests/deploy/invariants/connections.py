"""Network: everything a service needs passes the policies, and nothing that it does not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from tests.deploy.invariants.environments import environment_of
from tests.deploy.invariants.project import CONSUMERS
from tests.deploy.invariants.sidecars import environment_of_sidecar
from tests.deploy.invariants.wiring import Service, chosen_by
from tests.deploy.objects import Manifests, Workload
from tests.deploy.traffic import End, Network, Policy

DNS: Final = End("DNS", {"k8s-app": "kube-dns"}, "kube-system")
OPERATOR: Final = End("Dapr's operator", {"app": "dapr-operator"}, "dapr-system")
SENTRY: Final = End("Dapr's sentry", {"app": "dapr-sentry"}, "dapr-system")
COLLECTOR: Final = End("the collector", {"app.kubernetes.io/name": "otel-collector"}, "observability")
PROMETHEUS: Final = End("Prometheus", {"app.kubernetes.io/name": "prometheus"}, "monitoring")
CONTROLLER: Final = End("the ingress controller", {"app.kubernetes.io/component": "controller"}, "ingress-nginx")
KEDA: Final = End("KEDA", {"app": "keda-operator"}, "keda")
STRANGER: Final = End("a pod of another namespace", {"app.kubernetes.io/component": "server"}, "default")
METADATA_SERVICE: Final = End("the metadata service of the cloud", address="169.254.169.254")
INTERNET: Final = End("an address outside", address="203.0.113.7")

_MADE_BY_OPERATORS: Final = {
    # The Services that operators make, and the labels of the pods behind them.
    "kafka-kafka-bootstrap": {"strimzi.io/cluster": "kafka", "strimzi.io/kind": "Kafka"},
    "postgres-rw": {"cnpg.io/cluster": "postgres", "cnpg.io/podRole": "instance"},
}
Flow = tuple[End, End, int, str]


def pod_of(one: Workload) -> End:
    return End(str(one), one.pod.metadata.labels)


def behind(manifests: Manifests, host: str) -> End:
    """The pods behind the name of a Service."""
    name = host.split(".", maxsplit=1)[0]
    if name in _MADE_BY_OPERATORS and not any(one.metadata.name == name for one in manifests.of("Service", Service)):
        return End(name, _MADE_BY_OPERATORS[name])
    service = next(one for one in manifests.of("Service", Service) if one.metadata.name == name)
    owner = next(iter(chosen_by(manifests, service)))
    return pod_of(owner)


def needed(manifests: Manifests) -> Iterator[Flow]:
    """What the settings of each container say that it speaks to, and who has to reach it."""
    kinds = {kind for kind, _ in manifests.names()}
    for one in [*manifests.servers(), *manifests.migrations()]:
        environment = environment_of(manifests, one, one.pod.spec.containers[0])
        yield pod_of(one), DNS, 53, "UDP"
        database = urlsplit(environment["TASKWIRE_DATABASE_URL"])
        host = "postgres-rw" if "Cluster" in kinds else database.hostname or ""
        yield pod_of(one), behind(manifests, host), database.port or 5432, "TCP"
    for one in manifests.servers():
        environment = environment_of(manifests, one, one.pod.spec.containers[0])
        yield pod_of(one), OPERATOR, 6500, "TCP"
        yield pod_of(one), SENTRY, 50001, "TCP"
        broker, _, port = environment_of_sidecar(one)["TASKWIRE_KAFKA_BROKERS"].rpartition(":")
        yield pod_of(one), behind(manifests, broker), int(port), "TCP"
        if "TASKWIRE_INTROSPECTION_URL" in environment:
            url = urlsplit(environment["TASKWIRE_INTROSPECTION_URL"])
            yield pod_of(one), behind(manifests, url.hostname or ""), url.port or 80, "TCP"
        if "TASKWIRE_AUTH_JWKS_URL" in environment:
            yield pod_of(one), INTERNET, 443, "TCP"
        if "OTEL_EXPORTER_OTLP_ENDPOINT" in environment:
            yield pod_of(one), COLLECTOR, urlsplit(environment["OTEL_EXPORTER_OTLP_ENDPOINT"]).port or 4318, "TCP"
            yield pod_of(one), COLLECTOR, 4317, "TCP"
        yield from _asked(manifests, one, int(environment["TASKWIRE_PORT"]))
        if "ScaledObject" in kinds and one.service in CONSUMERS:
            yield KEDA, behind(manifests, broker), int(port), "TCP"
    for job in manifests.of("Job", Workload):
        if job not in manifests.migrations():
            yield pod_of(job), behind(manifests, "kafka"), 9092, "TCP"


def _asked(manifests: Manifests, one: Workload, listens: int) -> Iterator[Flow]:
    kinds = {kind for kind, _ in manifests.names()}
    if "PodMonitor" in kinds:
        yield PROMETHEUS, pod_of(one), listens, "TCP"
        yield PROMETHEUS, pod_of(one), int(one.pod.metadata.annotations["dapr.io/metrics-port"]), "TCP"
    if "Ingress" in kinds:
        yield CONTROLLER, pod_of(one), listens, "TCP"


def unwanted(manifests: Manifests) -> Iterator[Flow]:
    """What no policy has a reason to let through."""
    servers = manifests.servers()
    for one in servers:
        for port in (8000, 3500, 50001, 50002, 9090):
            yield STRANGER, pod_of(one), port, "TCP"
            yield INTERNET, pod_of(one), port, "TCP"
            for other in servers:
                # task-api is asked about API keys; nobody asks sidecars, and nobody asks the consumers.
                if other is not one and not (one.service == "task-api" and port == 8000):
                    yield pod_of(other), pod_of(one), port, "TCP"
        for port in (3500, 50001, 50002):
            yield CONTROLLER, pod_of(one), port, "TCP"
            yield PROMETHEUS, pod_of(one), port, "TCP"
        for port in (80, 443):
            yield pod_of(one), METADATA_SERVICE, port, "TCP"
        for port in (22, 25, 80, 5432):
            yield pod_of(one), INTERNET, port, "TCP"
        yield pod_of(one), STRANGER, 8000, "TCP"
    for job in manifests.migrations():
        yield pod_of(job), INTERNET, 443, "TCP"
        yield pod_of(job), OPERATOR, 6500, "TCP"
        yield from ((pod_of(job), pod_of(one), 8000, "TCP") for one in servers)
    data = manifests.of("StatefulSet", Workload)
    yield from ((STRANGER, pod_of(one), port, "TCP") for one in data for port in (5432, 9092))
    yield from ((pod_of(one), INTERNET, 443, "TCP") for one in data)
    unknown = End("a pod that none of the policies knows")
    yield unknown, INTERNET, 443, "TCP"
    yield STRANGER, unknown, 8000, "TCP"


def _told(flow: Flow) -> str:
    source, target, port, protocol = flow
    return f"{source.name} → {target.name}, {protocol} {port}"


def cut_off(manifests: Manifests) -> Iterator[str]:
    """Needed connections that some policy stops."""
    network = Network.of(manifests)
    yield from sorted({f"stopped: {_told(flow)}" for flow in needed(manifests) if not network.lets(*flow)})


def let_through(manifests: Manifests) -> Iterator[str]:
    """Connections that no service needs and no policy stops."""
    network = Network.of(manifests)
    yield from sorted({f"let through: {_told(flow)}" for flow in unwanted(manifests) if network.lets(*flow)})


def policies_of_nobody(manifests: Manifests) -> Iterator[str]:
    """Each selects pods that are there, those of operators included."""
    made: Sequence[Mapping[str, str]] = [
        *(one.pod.metadata.labels for one in manifests.workloads()),
        *_MADE_BY_OPERATORS.values(),
    ]
    for policy in manifests.of("NetworkPolicy", Policy):
        if not any(policy.spec.pod_selector.matches(labels) for labels in made):
            yield f"NetworkPolicy {policy.metadata.name}: selects nobody"
