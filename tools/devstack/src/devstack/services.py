"""The services of Taskwire and what each is told when it starts."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from devstack.failures import ProvisionError
from devstack.layout import HOST, MAX_SERVICES, Ports

AUTH_ISSUER: Final = "taskwire-dev"
AUTH_AUDIENCE: Final = "taskwire"
INTROSPECTION_PATH: Final = "/internal/api-keys/introspect"
"""Of task-api, where the other services ask what an API key is."""
DEAD_LETTER_BYTES: Final = 2 * 1024 * 1024
"""Largest record of a dead-letter topic: what `tasks` takes (1 MiB) and what daprd adds to it."""


@dataclass(frozen=True)
class Service:
    """One replica of a service.

    Attributes:
        app_id: Its name towards Dapr and Kafka (consumer group); the same for all replicas.
        module: Python package; `python -m` it to serve or to migrate. Also its database and role.
        index: Its place in the port plan.
        consumes: Whether events of tasks are delivered to it, which decides who of app and sidecar ends first.
        replica: 1 for the first one, which is usually the only one.
    """

    app_id: str
    module: str
    index: int
    consumes: bool
    replica: int = 1

    @property
    def name(self) -> str:
        """What people call it: the app id, with a number from the second replica on."""
        return self.app_id if self.replica == 1 else f"{self.app_id}-{self.replica}"

    @property
    def sidecar(self) -> str:
        """Name of the daprd beside it."""
        return f"daprd-{self.name}"


SERVICES: Final = (
    Service("task-api", "task_api", 0, consumes=False),
    Service("audit-worker", "audit_worker", 1, consumes=True),
    Service("notifier", "notifier", 2, consumes=True),
)
"""One replica of each, which is what runs unless `TASKWIRE_REPLICAS` says otherwise."""

MANY_REQUESTS: Final = {
    "TASKWIRE_RATE_LIMIT_PER_USER": "1000000",
    "TASKWIRE_RATE_LIMIT_PER_ADDRESS": "1000000",
}
"""Benchmarks and clients of the chaos suite are few users at one address, who ask as fast as they can."""

REPLICAS_FIX: Final = "Name services and numbers, for instance TASKWIRE_REPLICAS=task-api=2,notifier=2"


def planned(environment: Mapping[str, str]) -> Sequence[Service]:
    """Every replica of every service: those of `SERVICES`, and what `TASKWIRE_REPLICAS` adds to them.

    Raises:
        ProvisionError: The setting names no service of ours, makes no sense or asks for more than there are ports.
    """
    wanted = environment.get("TASKWIRE_REPLICAS", "")
    plan = list(SERVICES)
    known = {service.app_id: service for service in SERVICES}
    for item in filter(None, (part.strip() for part in wanted.split(","))):
        app_id, _, count = item.partition("=")
        if app_id not in known or not count.isdecimal() or int(count) < 1:
            raise ProvisionError("TASKWIRE_REPLICAS is not usable", f"{item!r} is no service and number", REPLICAS_FIX)
        if len(plan) + int(count) - 1 > MAX_SERVICES:
            most = f"there are ports for {MAX_SERVICES} replicas in all"
            raise ProvisionError("TASKWIRE_REPLICAS is not usable", most, REPLICAS_FIX)
        plan += [
            replace(known[app_id], index=len(plan) + number, replica=number + 2) for number in range(int(count) - 1)
        ]
        del known[app_id]
    return plan


@dataclass(frozen=True)
class Tokens:
    """How an app and its daprd know each other: a pair's own, so that no service can pass for another's sidecar."""

    dapr: str
    app: str

    @classmethod
    def new(cls) -> Self:
        """Make those of one start."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32))

    def environment(self) -> dict[str, str]:
        """As Dapr's own variables, for both of them."""
        return {"DAPR_API_TOKEN": self.dapr, "APP_API_TOKEN": self.app}


def url(service: Service, ports: Ports) -> str:
    """Where the service answers."""
    return f"http://{HOST}:{ports.app(service.index)}"


def database_url(service: Service, ports: Ports, password: str) -> str:
    """Connection string of the service's own role to its own database."""
    return f"postgresql://{service.module}:{password}@{HOST}:{ports.postgres}/{service.module}"


def service_environment(
    service: Service, ports: Ports, inherited: Mapping[str, str], secrets: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of a service process.

    Args:
        service: Which one.
        ports: The stack's ports.
        inherited: Ours, with `.env` merged in: settings nobody set here (OTEL_…, TASKWIRE_…) go through.
        secrets: What only this stack knows: database URL, token secret, Dapr tokens.
    """
    told = {
        "TASKWIRE_ENVIRONMENT": "development",
        "TASKWIRE_HOST": HOST,
        "TASKWIRE_PORT": str(ports.app(service.index)),
        "TASKWIRE_AUTH_ISSUER": AUTH_ISSUER,
        "TASKWIRE_AUTH_AUDIENCE": AUTH_AUDIENCE,
        "DAPR_HTTP_PORT": str(ports.dapr_http(service.index)),
        "DAPR_GRPC_PORT": str(ports.dapr_grpc(service.index)),
        "OTEL_SERVICE_NAME": service.app_id,
        "PYTHONUNBUFFERED": "1",
    }
    return {**MANY_REQUESTS, **without_dapr(inherited), **told, **secrets}


def without_dapr(inherited: Mapping[str, str]) -> dict[str, str]:
    """An environment without another sidecar's settings, and with this machine exempt from proxies."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(("DAPR_", "APP_API_TOKEN"))}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, [kept.get(name, ""), HOST, "localhost"]))
    return kept


def read_dotenv(path: Path) -> dict[str, str]:
    """Settings of a `.env` file: `NAME=value` lines, `#` comments, optional quotes; only names of ours and OTel's."""
    if not path.exists():
        return {}
    found = {}
    for raw in path.read_text().splitlines():
        name, separator, value = raw.strip().removeprefix("export ").partition("=")
        if separator and name.strip().startswith(("TASKWIRE_", "OTEL_")):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    for quote in ('"', "'"):
        if value.startswith(quote) and value.endswith(quote) and len(value) > 1:
            return value[1:-1]
    return value.split(" #", maxsplit=1)[0].rstrip()
