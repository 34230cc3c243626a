"""The state of a stack put together from its parts."""

import os
from collections.abc import Mapping, Sequence

from devstack.credentials import Credentials
from devstack.layout import HOST, Layout
from devstack.part import Part
from devstack.services import Service, database_url, url
from devstack.stack import KAFKA, POSTGRES
from devstack.state import STOPPING, PartReport, ServiceReport, StackReport


def stack_report(
    layout: Layout, credentials: Credentials, state: str, services: Sequence[Service], parts: Mapping[str, Part]
) -> StackReport:
    """Everything other commands need to know about a running stack."""
    return StackReport(
        running=state != STOPPING,
        state=state,
        services={service.name: _service(service, layout, credentials, parts) for service in services},
        kafka=f"{HOST}:{layout.ports.kafka}",
        kafka_pid=_pid(parts, KAFKA),
        postgres_pid=_pid(parts, POSTGRES),
        supervisor_pid=os.getpid(),
        home=str(layout.home),
        port_base=layout.ports.base,
        parts={name: _part(part) for name, part in parts.items()},
    )


def _service(service: Service, layout: Layout, credentials: Credentials, parts: Mapping[str, Part]) -> ServiceReport:
    return ServiceReport(
        url=url(service, layout.ports),
        pid=_pid(parts, service.name),
        dapr_pid=_pid(parts, service.sidecar),
        dapr_http=layout.ports.dapr_http(service.index),
        dapr_grpc=layout.ports.dapr_grpc(service.index),
        postgres=database_url(service, layout.ports, credentials.role_passwords[service.module]),
    )


def _part(part: Part) -> PartReport:
    return PartReport(
        state=part.state.value,
        pid=part.pid,
        started_at=part.started_at,
        restarts=part.restarts,
        log=str(part.spec.log),
    )


def _pid(parts: Mapping[str, Part], name: str) -> int | None:
    return parts[name].pid if name in parts else None
