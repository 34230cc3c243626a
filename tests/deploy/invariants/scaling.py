"""Replicas: who says how many, and what their number must not exceed."""

import re
from collections.abc import Iterator, Sequence

from pydantic import Field
from tests.deploy.invariants.environments import environment_of
from tests.deploy.invariants.project import CONSUMERS
from tests.deploy.invariants.sidecars import environment_of_sidecar, topics_made
from tests.deploy.objects import Manifests, Metadata, Shape, Workload

from chassis.settings import ServiceSettings

RESERVED = 20
"""Connections for PostgreSQL's own use, its operator, and people."""
LULL = 300
"""Seconds without work after which pods are too many: taking one away is a rebalance, or ends streams."""


class _Target(Shape):
    kind: str = "Deployment"
    name: str


class _Down(Shape):
    stabilization_window_seconds: int = 0


class _Behavior(Shape):
    scale_down: _Down = Field(default_factory=_Down)


class _HpaSpec(Shape):
    scale_target_ref: _Target
    min_replicas: int = 1
    max_replicas: int
    behavior: _Behavior = Field(default_factory=_Behavior)


class _Hpa(Shape):
    metadata: Metadata
    spec: _HpaSpec


class _Trigger(Shape):
    type: str
    metadata: dict[str, str]


class _HpaOfKeda(Shape):
    behavior: _Behavior = Field(default_factory=_Behavior)


class _Advanced(Shape):
    of_hpa: _HpaOfKeda = Field(default_factory=_HpaOfKeda, alias="horizontalPodAutoscalerConfig")


class _ScaledSpec(Shape):
    scale_target_ref: _Target
    min_replica_count: int = 0
    max_replica_count: int = 100
    triggers: Sequence[_Trigger]
    advanced: _Advanced = Field(default_factory=_Advanced)


class _Scaled(Shape):
    metadata: Metadata
    spec: _ScaledSpec


class _Parameters(Shape):
    parameters: dict[str, str] = Field(default_factory=dict)


class _ClusterSpec(Shape):
    postgresql: _Parameters | None = None


class _Cluster(Shape):
    spec: _ClusterSpec


def scaled(manifests: Manifests) -> dict[str, tuple[int, int]]:
    """Least and most replicas of every server."""
    found = {one.name: (one.spec.replicas or 0,) * 2 for one in manifests.servers()}
    for hpa in _hpas(manifests):
        found[hpa.spec.scale_target_ref.name] = (hpa.spec.min_replicas, hpa.spec.max_replicas)
    for one in manifests.of("ScaledObject", _Scaled):
        found[one.spec.scale_target_ref.name] = (one.spec.min_replica_count, one.spec.max_replica_count)
    return found


def two_who_say_how_many(manifests: Manifests) -> Iterator[str]:
    """A Deployment has a number of replicas or one autoscaler; KEDA makes an HPA of its own."""
    servers = {one.name: one for one in manifests.servers()}
    targets = [one.spec.scale_target_ref for one in _hpas(manifests)]
    targets += [one.spec.scale_target_ref for one in manifests.of("ScaledObject", _Scaled)]
    for target in targets:
        if target.kind != "Deployment" or target.name not in servers:
            yield f"an autoscaler scales {target.kind} {target.name}, which is not there"
    for name, one in servers.items():
        who = [target.name for target in targets].count(name) + (one.spec.replicas is not None)
        if who != 1:
            yield f"{one}: {who} say how many replicas it has"


def without_a_second(manifests: Manifests) -> Iterator[str]:
    """What people call survives the loss of a pod, and an update takes none away before there is another."""
    least = scaled(manifests)
    for one in manifests.servers():
        if one.service not in CONSUMERS and least[one.name][0] < 2:
            yield f"{one}: has {least[one.name][0]} replica at times"
        update = one.spec.strategy.rolling_update
        if update.max_unavailable != 0 or not update.max_surge:
            yield f"{one}: an update takes pods away before there are others"


def more_consumers_than_partitions(manifests: Manifests) -> Iterator[str]:
    """A consumer without a partition does nothing."""
    partitions = topics_made(manifests)
    for name, (_, most) in scaled(manifests).items():
        if name in CONSUMERS and most > partitions["tasks"][0]:
            yield f"{name}: up to {most} replicas, and `tasks` has {partitions['tasks'][0]} partitions"


def taken_away_at_every_lull(manifests: Manifests) -> Iterator[str]:
    """Autoscalers wait before they take pods away; of KEDA's, its HPA must: `cooldownPeriod` is about zero alone."""
    scalers = [(f"HorizontalPodAutoscaler {one.metadata.name}", one.spec.behavior) for one in _hpas(manifests)]
    scalers += [
        (f"ScaledObject {one.metadata.name}", one.spec.advanced.of_hpa.behavior)
        for one in manifests.of("ScaledObject", _Scaled)
    ]
    for name, behavior in scalers:
        waits = behavior.scale_down.stabilization_window_seconds
        if waits < LULL:
            yield f"{name}: takes pods away after {waits} s"


def _hpas(manifests: Manifests) -> list[_Hpa]:
    return manifests.of("HorizontalPodAutoscaler", _Hpa)


def lag_of_somebody_else(manifests: Manifests) -> Iterator[str]:
    """KEDA looks at the consumer group that Dapr makes of the app id, on a topic that it reads, at the same brokers."""
    servers = {one.name: one for one in manifests.servers()}
    for one in manifests.of("ScaledObject", _Scaled):
        server = servers.get(one.spec.scale_target_ref.name)
        if server is None:
            continue
        for trigger in one.spec.triggers:
            app_id = server.pod.metadata.annotations["dapr.io/app-id"]
            if trigger.type != "kafka" or trigger.metadata.get("consumerGroup") != app_id:
                yield f"ScaledObject {one.metadata.name}: looks at the group {trigger.metadata.get('consumerGroup')}"
            if trigger.metadata.get("topic") != "tasks":
                yield f"ScaledObject {one.metadata.name}: looks at the topic {trigger.metadata.get('topic')}"
            if trigger.metadata.get("offsetResetPolicy") != "earliest":
                yield f"ScaledObject {one.metadata.name}: a group without offsets begins at the oldest event"
            theirs = _host_and_port(environment_of_sidecar(server)["TASKWIRE_KAFKA_BROKERS"])
            if _host_and_port(trigger.metadata.get("bootstrapServers", "")) != theirs:
                yield f"ScaledObject {one.metadata.name}: asks other brokers than its sidecar"


def _host_and_port(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return host.split(".")[0], port


def more_connections_than_postgres_has(manifests: Manifests) -> Iterator[str]:
    """All replicas there can be, and those an update adds, may fill their pools."""
    largest = scaled(manifests)
    wanted = sum((largest[one.name][1] + _surge(one)) * _pool(manifests, one) for one in manifests.servers())
    for cluster in manifests.of("Cluster", _Cluster):
        told = cluster.spec.postgresql.parameters if cluster.spec.postgresql else {}
        has = int(told.get("max_connections", "100"))
        if has < wanted + RESERVED:
            yield f"PostgreSQL takes {has} connections, and {wanted} may be asked for besides its own {RESERVED}"


def _surge(one: Workload) -> int:
    surge = re.fullmatch(r"\d+", str(one.spec.strategy.rolling_update.max_surge))
    assert surge is not None, f"{one}: say maxSurge as a number of pods"
    return int(surge[0])


def _pool(manifests: Manifests, one: Workload) -> int:
    environment = environment_of(manifests, one, one.pod.spec.containers[0])
    fields = ServiceSettings.model_fields
    return sum(
        int(environment.get(f"TASKWIRE_{name.upper()}", fields[name].default))
        for name in ("database_pool_size", "database_pool_overflow")
    )
