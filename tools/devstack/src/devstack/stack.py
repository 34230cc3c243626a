"""The real stack: which parts there are, what each waits for, in which order they end."""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from devstack.console import Console
from devstack.credentials import Credentials
from devstack.crew import Crew
from devstack.databases import accepts_connections, ensure_databases
from devstack.failures import ProvisionError
from devstack.kafka import TOPICS, KafkaBroker, answers, ensure_topics
from devstack.layout import HOST, REPOSITORY, Layout
from devstack.part import Part, PartSpec
from devstack.postgres import PostgresServer
from devstack.probe import http_status
from devstack.process import Command, describe_exit, log_tail, signal_group, spawn
from devstack.provision import Programs
from devstack.services import INTROSPECTION_PATH, SERVICES, Service, Tokens, database_url, service_environment, url
from devstack.sidecar import APP_HEALTH_PATH, DRAIN_SECONDS, HEALTH_PATH, sidecar_command

POSTGRES: Final = "postgres"
KAFKA: Final = "kafka"
_OK: Final = range(200, 300)
_MIGRATION_DEADLINE: Final = 120.0
_TAIL: Final = 15


@dataclass(frozen=True)
class Stack:
    """Everything needed to bring the parts up.

    Attributes:
        layout: Paths and ports.
        services: Every replica that shall run.
        programs: What provisioning found.
        credentials: The stack's secrets.
        inherited: The environment that goes through to services and sidecars.
        console: Where progress is shown.
        crew: Owns the processes.
    """

    layout: Layout
    services: Sequence[Service]
    programs: Programs
    credentials: Credentials
    inherited: Mapping[str, str]
    console: Console
    crew: Crew

    async def start(self) -> None:
        """Start every part as soon as what it needs is there; returns when all are ready.

        Raises:
            ProvisionError: A part did not come up.
        """
        tokens = {service.name: Tokens.new() for service in self.services}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._storage_then_services(tokens))
                group.create_task(self._log_then_sidecars(tokens))
        except* ProvisionError as failures:
            raise _first(failures) from None

    async def _storage_then_services(self, tokens: Mapping[str, Tokens]) -> None:
        server = PostgresServer(
            self.layout.data / POSTGRES, self.layout.ports.postgres, self.credentials.postgres_password, {}
        )
        part = self.crew.add(
            PartSpec(
                POSTGRES,
                server.command,
                partial(accepts_connections, server),
                self.layout.log_file(POSTGRES),
                # "Fast shutdown": ends open connections instead of waiting for them.
                stop_signal=signal.SIGINT,
            )
        )
        with self.console.step(f"PostgreSQL on {HOST}:{server.port}"):
            await asyncio.to_thread(server.prepare)
            await _up(part)
            await ensure_databases(server, self.credentials.role_passwords)
        async with asyncio.TaskGroup() as group:
            for service in self.services:
                group.create_task(self._service(service, tokens[service.name]))

    async def _log_then_sidecars(self, tokens: Mapping[str, Tokens]) -> None:
        ports = self.layout.ports
        broker = KafkaBroker(
            self.layout.data / KAFKA,
            self.layout.run / "kafka.properties",
            self.programs.jars,
            ports.kafka,
            ports.kafka_controller,
        )
        part = self.crew.add(
            PartSpec(KAFKA, broker.command, partial(answers, broker.bootstrap), self.layout.log_file(KAFKA))
        )
        with self.console.step(f"Kafka on {broker.bootstrap}"):
            await asyncio.to_thread(broker.prepare)
            await _up(part)
            await ensure_topics(broker.bootstrap, TOPICS)
        async with asyncio.TaskGroup() as group:
            for service in self.services:
                group.create_task(self._sidecar(service, tokens[service.name]))

    async def _service(self, service: Service, tokens: Tokens) -> None:
        ports, log = self.layout.ports, self.layout.log_file(service.name)
        told = {
            "TASKWIRE_DATABASE_URL": database_url(service, ports, self.credentials.role_passwords[service.module]),
            "TASKWIRE_AUTH_HS256_SECRET": self.credentials.auth_secret,
            "TASKWIRE_INTROSPECTION_URL": url(SERVICES[0], ports) + INTROSPECTION_PATH,
            "TASKWIRE_INTROSPECTION_SECRET": self.credentials.introspection_secret,
            **tokens.environment(),
        }
        environment = service_environment(service, ports, self.inherited, told)

        def command(action: str) -> Command:
            return Command([sys.executable, "-m", service.module, action], environment, REPOSITORY)

        async def ready() -> bool:
            return await http_status(ports.app(service.index), APP_HEALTH_PATH) in _OK

        part = self.crew.add(PartSpec(service.name, partial(command, "serve"), ready, log, stop_grace=45.0))
        with self.console.step(f"{service.name} on {url(service, ports)}"):
            await self._migrate(service, command("migrate"))
            await _up(part)

    async def _sidecar(self, service: Service, tokens: Tokens) -> None:
        ports = self.layout.ports
        command = partial(sidecar_command, service, self.programs.daprd, ports, self.inherited, tokens)

        async def ready() -> bool:
            headers = {"dapr-api-token": tokens.dapr}
            return await http_status(ports.dapr_http(service.index), HEALTH_PATH, headers) in _OK

        log = self.layout.log_file(service.sidecar)
        part = self.crew.add(PartSpec(service.sidecar, command, ready, log, stop_grace=DRAIN_SECONDS + 5.0))
        with self.console.step(f"Dapr beside {service.name} on {HOST}:{ports.dapr_http(service.index)}"):
            await _up(part)

    async def _migrate(self, service: Service, command: Command) -> None:
        log = self.layout.log_file(service.name)
        process = await spawn(command, log)
        self.crew.began(process.pid)
        try:
            async with asyncio.timeout(_MIGRATION_DEADLINE):
                code = await process.wait()
        except TimeoutError:
            code = -signal.SIGALRM
        finally:
            signal_group(process.pid, signal.SIGKILL)
            self.crew.ended(process.pid)
        if code != 0:
            error = ProvisionError(
                f"the database of {service.app_id} could not be brought to its newest schema",
                f"python -m {service.module} migrate ended with {describe_exit(code)}",
                f"Its log, {log}, says more",
            )
            for line in log_tail(log, _TAIL):
                error.add_note(line)
            raise error


def stop_stages(services: Sequence[Service]) -> list[Sequence[str]]:
    """Names of parts in the order they end, stage by stage.

    A sidecar that delivers events drains while its app is still there to take them; an app that only publishes
    ends before the sidecar it publishes through.
    """
    consumers = [service for service in services if service.consumes]
    publishers = [service for service in services if not service.consumes]
    return [
        [*(service.sidecar for service in consumers), *(service.name for service in publishers)],
        [*(service.name for service in consumers), *(service.sidecar for service in publishers)],
        [KAFKA],
        [POSTGRES],
    ]


async def _up(part: Part) -> None:
    part.start()
    await part.wait_ready()


def _first(failures: BaseExceptionGroup[ProvisionError]) -> ProvisionError:
    for failure in failures.exceptions:
        return failure if isinstance(failure, ProvisionError) else _first(failure)
    raise AssertionError("an exception group is never empty")
