"""Edits that the checks of `invariants/connections.py` must notice."""

from typing import Final

from tests.deploy.breakages.edit import GONE, LOCAL, Breakage
from tests.deploy.invariants import connections

BREAKAGES: Final = [
    *(
        Breakage(f"without the policy {name}", connections.cut_off, "NetworkPolicy", name, (), GONE)
        for name in (
            "dns",
            "to-postgres",
            "to-kafka",
            "to-dapr-control-plane",
            "consumers-to-task-api",
            "task-api-from-consumers",
            "to-identity-provider",
            "to-collector",
            "from-prometheus",
            "from-ingress",
        )
    ),
    Breakage(
        "without the policy of the topics", connections.cut_off, "NetworkPolicy", "topics-to-kafka", (), GONE, LOCAL
    ),
    Breakage(
        "a database that lets nobody in", connections.cut_off, "NetworkPolicy", "postgres", ("spec", "ingress", 0), GONE
    ),
    Breakage(
        "a broker that KEDA cannot ask",
        connections.cut_off,
        "NetworkPolicy",
        "kafka",
        ("spec", "ingress", 0, "from", 1),
        GONE,
        told="KEDA",
    ),
    Breakage(
        "a broker behind another port",
        connections.cut_off,
        "NetworkPolicy",
        "to-kafka",
        ("spec", "egress", 0, "ports", 0, "port"),
        9092,
    ),
    Breakage(
        "DNS over TCP alone",
        connections.cut_off,
        "NetworkPolicy",
        "dns",
        ("spec", "egress", 0, "ports", 0),
        GONE,
        told="DNS",
    ),
    Breakage("nothing is denied", connections.let_through, "NetworkPolicy", "default-deny", (), GONE),
    Breakage(
        "the cloud tells who we are",
        connections.let_through,
        "NetworkPolicy",
        "to-identity-provider",
        ("spec", "egress", 0, "to", 0, "ipBlock", "except"),
        [],
        told="metadata",
    ),
    Breakage(
        "any port outside",
        connections.let_through,
        "NetworkPolicy",
        "to-identity-provider",
        ("spec", "egress", 0, "ports"),
        [],
    ),
    Breakage(
        "any pod may ask task-api",
        connections.let_through,
        "NetworkPolicy",
        "task-api-from-consumers",
        ("spec", "ingress", 0, "from"),
        [],
        told="another namespace",
    ),
    Breakage(
        "sidecars that Prometheus may drive",
        connections.let_through,
        "NetworkPolicy",
        "from-prometheus",
        ("spec", "ingress", 0, "ports"),
        [],
    ),
    Breakage(
        "an open database",
        connections.let_through,
        "NetworkPolicy",
        "postgres",
        ("spec", "ingress", 0, "from"),
        [],
        LOCAL,
    ),
    Breakage(
        "a policy of nobody",
        connections.policies_of_nobody,
        "NetworkPolicy",
        "to-collector",
        ("spec", "podSelector", "matchLabels", "app.kubernetes.io/component"),
        "app",
    ),
]
