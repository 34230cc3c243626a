"""Edits that the checks of `invariants/environments.py` must notice."""

from typing import Final

from tests.deploy.breakages.edit import ANNOTATIONS, APP, GONE, Breakage
from tests.deploy.invariants import environments

BREAKAGES: Final = [
    Breakage(
        "a setting with a wrong name",
        environments.unknown_variables,
        "ConfigMap",
        "taskwire",
        ("data", "TASKWIRE_LOGLEVEL"),
        "DEBUG",
    ),
    Breakage(
        "a setting of another service",
        environments.unknown_variables,
        "ConfigMap",
        "taskwire",
        ("data", "TASKWIRE_INTROSPECTION_URL"),
        "http://task-api:8000/",
    ),
    Breakage(
        "a required setting is missing",
        environments.services_that_would_not_start,
        "ConfigMap",
        "taskwire",
        ("data", "TASKWIRE_AUTH_ISSUER"),
        GONE,
        told="TASKWIRE_AUTH_ISSUER",
    ),
    Breakage(
        "a secret without one of its keys",
        environments.services_that_would_not_start,
        "ExternalSecret",
        "task-api",
        ("spec", "data", 1),
        GONE,
        told="TASKWIRE_CURSOR_SECRET",
    ),
    Breakage(
        "a value that is none",
        environments.services_that_would_not_start,
        "ConfigMap",
        "taskwire",
        ("data", "TASKWIRE_SHUTDOWN_GRACE"),
        "20s",
    ),
    Breakage(
        "no token of the sidecar",
        environments.services_that_would_not_start,
        "Job",
        "migrate-notifier-0-1-0",
        (*APP, "env"),
        [],
        told="DAPR_API_TOKEN",
    ),
    Breakage(
        "keys by http",
        environments.services_that_would_not_start,
        "ConfigMap",
        "taskwire",
        ("data", "TASKWIRE_AUTH_JWKS_URL"),
        "http://id.example.com/jwks",
        told="https",
    ),
    Breakage(
        "the same secret twice",
        environments.services_that_would_not_start,
        "Deployment",
        "task-api",
        (*APP, "env", 1, "valueFrom", "secretKeyRef", "name"),
        "task-api-dapr-api",
        told="are the same",
    ),
    Breakage(
        "a secret in a ConfigMap",
        environments.secrets_in_the_open,
        "ConfigMap",
        "taskwire",
        ("data", "TASKWIRE_ERASURE_SECRET"),
        "x",
    ),
    Breakage(
        "a database's password in a ConfigMap",
        environments.secrets_in_the_open,
        "ConfigMap",
        "consumers",
        ("data", "TASKWIRE_DATABASE_URL"),
        "x",
    ),
    Breakage(
        "a token written out",
        environments.secrets_in_the_open,
        "Deployment",
        "task-api",
        (*APP, "env", 0),
        {"name": "DAPR_API_TOKEN", "value": "x"},
    ),
    Breakage(
        "a password in an annotation",
        environments.secrets_in_the_open,
        "Deployment",
        "task-api",
        (*ANNOTATIONS, "dapr.io/env"),
        "TASKWIRE_KAFKA_BROKERS=kafka:9092,TASKWIRE_KAFKA_PASSWORD=x",
    ),
    Breakage("a Secret nobody makes", environments.references_to_nothing, "ExternalSecret", "taskwire", (), GONE),
    Breakage(
        "a token nobody makes", environments.references_to_nothing, "ExternalSecret", "notifier-app-api", (), GONE
    ),
    Breakage(
        "a user of Kafka nobody makes", environments.references_to_nothing, "KafkaUser", "notifier-kafka", (), GONE
    ),
    Breakage("a ConfigMap nobody makes", environments.references_to_nothing, "ConfigMap", "consumers", (), GONE),
    Breakage("a certificate nobody makes", environments.references_to_nothing, "Cluster", "postgres", (), GONE),
    Breakage(
        "the tokens of another service",
        environments.tokens_of_another_pair,
        "Deployment",
        "notifier",
        (*ANNOTATIONS, "dapr.io/app-token-secret"),
        "audit-worker-app-api",
    ),
]
