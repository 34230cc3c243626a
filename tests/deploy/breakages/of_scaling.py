"""Edits that the checks of `invariants/scaling.py` must notice."""

from typing import Final

from tests.deploy.breakages.edit import GONE, LOCAL, Breakage
from tests.deploy.invariants import scaling

BREAKAGES: Final = [
    Breakage(
        "a number beside an autoscaler", scaling.two_who_say_how_many, "Deployment", "task-api", ("spec", "replicas"), 2
    ),
    Breakage(
        "HPA and KEDA",
        scaling.two_who_say_how_many,
        "HorizontalPodAutoscaler",
        "task-api",
        ("spec", "scaleTargetRef", "name"),
        "notifier",
    ),
    Breakage(
        "an autoscaler of nobody",
        scaling.two_who_say_how_many,
        "ScaledObject",
        "notifier",
        ("spec", "scaleTargetRef", "name"),
        "notify",
    ),
    Breakage("nobody says how many", scaling.two_who_say_how_many, "ScaledObject", "notifier", (), GONE),
    Breakage(
        "a single one at times",
        scaling.without_a_second,
        "HorizontalPodAutoscaler",
        "task-api",
        ("spec", "minReplicas"),
        1,
    ),
    Breakage(
        "an update that takes away first",
        scaling.without_a_second,
        "Deployment",
        "task-api",
        ("spec", "strategy", "rollingUpdate", "maxUnavailable"),
        1,
    ),
    Breakage(
        "consumers with nothing to do",
        scaling.more_consumers_than_partitions,
        "ScaledObject",
        "notifier",
        ("spec", "maxReplicaCount"),
        7,
    ),
    Breakage(
        "as many without KEDA",
        scaling.more_consumers_than_partitions,
        "Deployment",
        "notifier",
        ("spec", "replicas"),
        7,
        LOCAL,
    ),
    Breakage(
        "a rebalance at every lull",
        scaling.taken_away_at_every_lull,
        "ScaledObject",
        "notifier",
        ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior"),
        GONE,
    ),
    Breakage(
        "a lull that is about zero alone",
        scaling.taken_away_at_every_lull,
        "ScaledObject",
        "audit-worker",
        ("spec", "advanced"),
        {"cooldownPeriod": 300},
    ),
    Breakage(
        "streams that end at every lull",
        scaling.taken_away_at_every_lull,
        "HorizontalPodAutoscaler",
        "task-api",
        ("spec", "behavior", "scaleDown", "stabilizationWindowSeconds"),
        0,
    ),
    Breakage(
        "the lag of another group",
        scaling.lag_of_somebody_else,
        "ScaledObject",
        "notifier",
        ("spec", "triggers", 0, "metadata", "consumerGroup"),
        "audit-worker",
    ),
    Breakage(
        "the lag of another topic",
        scaling.lag_of_somebody_else,
        "ScaledObject",
        "notifier",
        ("spec", "triggers", 0, "metadata", "topic"),
        "accounts",
    ),
    Breakage(
        "a new group without lag",
        scaling.lag_of_somebody_else,
        "ScaledObject",
        "notifier",
        ("spec", "triggers", 0, "metadata", "offsetResetPolicy"),
        "latest",
    ),
    Breakage(
        "the lag at other brokers",
        scaling.lag_of_somebody_else,
        "ScaledObject",
        "notifier",
        ("spec", "triggers", 0, "metadata", "bootstrapServers"),
        "kafka:9092",
    ),
    Breakage(
        "more pools than connections",
        scaling.more_connections_than_postgres_has,
        "HorizontalPodAutoscaler",
        "task-api",
        ("spec", "maxReplicas"),
        12,
    ),
    Breakage(
        "larger pools than connections",
        scaling.more_connections_than_postgres_has,
        "ConfigMap",
        "taskwire",
        ("data", "TASKWIRE_DATABASE_POOL_SIZE"),
        "20",
    ),
]
