"""What the project says of itself, and the manifests have to agree with."""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Final

from audit_worker.settings import AuditWorkerSettings
from chassis.settings import ServiceSettings
from devstack.layout import REPOSITORY
from notifier.settings import NotifierSettings
from task_api.settings import TaskApiSettings

SERVICES: Final[Mapping[str, type[ServiceSettings]]] = {
    "task-api": TaskApiSettings,
    "audit-worker": AuditWorkerSettings,
    "notifier": NotifierSettings,
}
CONSUMERS: Final = ("audit-worker", "notifier")


@cache
def version() -> str:
    """The version in pyproject.toml."""
    return str(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"])


@cache
def routes_of(service: str) -> frozenset[str]:
    """Every documented path of a service; that the document is of the code, `make check` holds."""
    document = json.loads((REPOSITORY / "specs" / "openapi" / f"{service}.json").read_text())
    return frozenset(document["paths"])
