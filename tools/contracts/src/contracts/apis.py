"""The contracts of the HTTP APIs: one OpenAPI document for each service."""

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI

import audit_worker.app
import notifier.app
import task_api.app
from audit_worker.settings import AuditWorkerSettings
from chassis.testing import settings_for
from contracts.api_compatibility import breaks, promised
from contracts.kinds import Kind, as_text
from contracts.releases import Contract
from notifier.settings import NotifierSettings
from task_api.settings import TaskApiSettings

# Nothing is connected before an application starts, so any settings will do.
APPLICATIONS: Final[dict[str, Callable[[], FastAPI]]] = {
    "task-api": lambda: task_api.app.create_app(settings_for(TaskApiSettings)),
    "audit-worker": lambda: audit_worker.app.create_app(settings_for(AuditWorkerSettings)),
    "notifier": lambda: notifier.app.create_app(settings_for(NotifierSettings)),
}


def document_of(service: str) -> dict[str, Any]:
    """Make the OpenAPI document of a service, as the service itself gives it."""
    return APPLICATIONS[service]().openapi()


def api_contract(document: dict[str, Any]) -> Contract:
    """Give what a document promises; its words and examples are free to change."""
    return Contract(str(document["info"]["version"]), {"api": promised(document)})


def api(service: str, document: Callable[[], dict[str, Any]] | None = None) -> Kind:
    """Give the contract of a service's API.

    Args:
        service: Its name.
        document: Makes the document, by default the service itself.
    """
    make = document or (lambda: document_of(service))
    return Kind(
        name=service,
        current=lambda: api_contract(make()),
        files=lambda: {f"openapi/{service}.json": as_text(make())},
        released=f"openapi/released/{service}",
        breaks=lambda current, released: map(str, breaks(current.parts["api"], released.parts["api"])),
        broken=(
            f"clients of {service} {{major}}.x break. Make the change additive (a new optional field, parameter or "
            f"operation beside the old one), or start {{next}}.0: docs/api/README.md, Versions"
        ),
        version_is_in=f"api_version (services/{service}/src/{service.replace('-', '_')}/app.py)",
    )


APIS: Final = [api(service) for service in APPLICATIONS]
