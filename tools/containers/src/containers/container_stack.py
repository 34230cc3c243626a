"""The stack of docker-compose.yml for end-to-end tests: a project, ports and volumes of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Self

from typing_extensions import override

from containers.composition import override as override_file
from containers.docker import INSTALL, absent, docker, logs
from containers.endings import Endings
from containers.environment import complete, read, required_variables
from containers.project import LostPortError, Project
from containers.spans import SpanReader
from devstack.databases import accepts_connections
from devstack.failures import ProvisionError
from devstack.kafka import answers
from devstack.layout import HOST, Ports
from devstack.leaks import Leak, LeakedSecretsError, find
from devstack.polling import until
from devstack.ports import free_base
from devstack.postgres import PostgresServer
from devstack.probe import http_status
from devstack.services import MANY_REQUESTS, SERVICES, Service
from devstack.sidecar import APP_HEALTH_PATH, HEALTH_PATH
from devstack.stack_secrets import StackSecrets

_OK: Final = range(200, 300)
_COMMAND: Final = 120.0
_PATIENCE: Final = 300.0
_POLL: Final = 0.1
_TAIL: Final = 30
_ATTEMPTS: Final = 3
_PORTS_OF_A_PREFIX: Final = 100
_ALL: Final = 10_000_000


class ContainerStack(StackSecrets):
    """One project of Compose; ends with its block, volumes and all."""

    def __init__(self, *, spans: Callable[[bytes], None] | None = None) -> None:
        """Prepare a stack.

        Args:
            spans: Called, in a thread, with each OTLP request body that a service or a sidecar exports.
        """
        super().__init__()
        self._home = Path(tempfile.mkdtemp(prefix="taskwire-containers-"))
        self._base = 0
        self._name = self._home.name.lower()
        self._settings = self._home / "compose.env"
        self._override = self._home / "override.yml"
        self._project = Project(self._override, self._settings)
        self._endings = Endings(self._name, self._home / "events.log")
        self._ids: dict[str, str] = {}
        self._reader = SpanReader(self._home / "spans", spans) if spans is not None else None
        self._services = {service.name: service for service in SERVICES}
        self._sidecars = {service.sidecar: service for service in SERVICES}

    def __enter__(self) -> Self:
        """Start everything and wait until it is ready.

        Raises:
            ProvisionError: It did not come up; what the containers said last is in its notes.
        """
        if (why := absent()) is not None:
            shutil.rmtree(self._home)
            raise ProvisionError("the stack of containers cannot be started", why, INSTALL)
        try:
            self._start()
        except BaseException:  # also Ctrl-C: containers do not end with who started them
            self._end()
            raise
        if self._reader is not None:
            self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End it in good order and delete its data.

        Raises:
            LeakedSecretsError: Some part has logged a secret; not when the block failed already.
        """
        try:
            self._project.stop(down=False)
            leaks = self.leaks()
        finally:
            self._end()
        if leaks and kind is None:
            raise LeakedSecretsError(leaks)

    @property
    def ports(self) -> Ports:
        """Where on the loopback address everything listens."""
        return Ports(self._base)

    @property
    def urls(self) -> Mapping[str, str]:
        """Base URL per service."""
        return {name: f"http://{HOST}:{self.ports.app(service.index)}" for name, service in self._services.items()}

    @property
    def databases(self) -> Mapping[str, str]:
        """Connection string per service."""
        known = read(self._settings)
        return {
            name: f"postgresql://{service.module}:{known[f'{service.module.upper()}_DATABASE_PASSWORD']}"
            f"@{HOST}:{self.ports.postgres}/{service.module}"
            for name, service in self._services.items()
        }

    @property
    def kafka(self) -> str:
        """Bootstrap address of the broker."""
        return f"{HOST}:{self.ports.kafka}"

    @property
    def part_names(self) -> Sequence[str]:
        """Every part there is."""
        return ["postgres", "kafka", *self._services, *self._sidecars]

    @override
    def signing_secret(self) -> str:
        """What tokens of this stack are signed with."""
        return read(self._settings)["TOKEN_SECRET"]

    @override
    def own_secrets(self) -> Mapping[str, str]:
        """What the stack locks its data and its parts with, and a name for each."""
        known = read(self._settings)
        return {known[name]: _words_for(name) for name in required_variables()}

    def leaks(self) -> list[Leak]:
        """Where some part has logged a secret until now."""
        secrets = self.secrets()
        return [
            leak
            for name, container in self._ids.items()
            for leak in find(name, logs(container, _ALL).encode(), secrets)
        ]

    def pid(self, name: str) -> int:
        """Process id of a part that runs, on this machine."""
        return int(self._inspect(name, "{{.State.Pid}}"))

    def environment(self, name: str) -> Mapping[str, str]:
        """What a part was told."""
        pairs: list[str] = json.loads(self._inspect(name, "{{json .Config.Env}}"))
        return dict(pair.split("=", 1) for pair in pairs)

    def pause(self, name: str) -> None:
        """Freeze a part: it keeps its connections and answers nobody."""
        self._do("pause", name)

    def resume(self, name: str) -> None:
        """Let a frozen part go on."""
        if self._state(name) == "paused":
            self._do("unpause", name)

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a part and wait until that process is gone; Docker starts it again.

        Not by `docker kill`, which Docker takes for a wish that the container stay down.
        """
        pid = self.pid(name)
        os.kill(pid, number)

        async def is_gone() -> bool:
            return await asyncio.to_thread(self.pid, name) != pid

        async with asyncio.timeout(_PATIENCE):
            await until(is_gone, _POLL)

    async def stop_part(self, name: str) -> None:
        """Stop a part in good order; it stays down until `start_part`."""
        await asyncio.to_thread(self._do, "stop", name)

    async def start_part(self, name: str) -> None:
        """Start a stopped part and wait until it is ready."""
        await asyncio.to_thread(self._do, "start", name)
        await self.wait_ready(name)

    async def wait_ready(self, name: str) -> None:
        """Wait until a part runs and does its work."""
        async with asyncio.timeout(_PATIENCE):
            await until(partial(self._is_ready, name), _POLL)

    async def wait_all_ready(self) -> None:
        """Wait until every part runs and does its work."""
        await asyncio.gather(*(self.wait_ready(name) for name in self.part_names))

    async def make_whole(self) -> None:
        """Have every part run and do its work, whatever was frozen or stopped."""
        for name in self.part_names:
            await asyncio.to_thread(self.resume, name)
        for name in self.part_names:
            await asyncio.to_thread(self._do, "start", name)
        await self.wait_all_ready()

    def log(self, name: str, lines: int = 50) -> list[str]:
        """The last lines a part has logged."""
        return logs(self._ids[name], lines).splitlines()

    def exit_codes(self, name: str) -> list[int]:
        """How a part ended each time that it ended unasked, since the stack began."""
        return self._endings.exit_codes(self._ids[name])

    async def _is_ready(self, name: str) -> bool:
        if name == "postgres":
            password = read(self._settings)["POSTGRES_PASSWORD"]
            return await accepts_connections(PostgresServer(self._home, self.ports.postgres, password, {}))
        if name == "kafka":
            return await answers(self.kafka)
        if name in self._services:
            return await http_status(self.ports.app(self._services[name].index), APP_HEALTH_PATH) in _OK
        service: Service = self._sidecars[name]
        headers = {"dapr-api-token": self.environment(name)["DAPR_API_TOKEN"]}
        return await http_status(self.ports.dapr_http(service.index), HEALTH_PATH, headers) in _OK

    def _start(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            self._base = free_base()
            self._write_settings()
            try:
                self._project.start()
                break
            except LostPortError:
                if attempt == _ATTEMPTS:
                    raise
                self._project.stop()
            except ProvisionError as error:
                for line in self._last_words():
                    error.add_note(line)
                raise
        self._endings.start()
        self._ids = {str(one.Service): str(one.ID) for one in self._project.get_containers(include_all=True)}

    def _write_settings(self) -> None:
        settings = {
            "COMPOSE_PROJECT_NAME": self._name,
            "TASKWIRE_PORT_PREFIX": str(self._base // _PORTS_OF_A_PREFIX),
            **MANY_REQUESTS,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "COLLECTOR_URL": self._reader.url if self._reader is not None else "",
        }
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        complete(self._settings)
        spans = self._reader.directory if self._reader is not None else None
        self._override.write_text(override_file(self.ports, spans))

    def _last_words(self) -> list[str]:
        with contextlib.suppress(ProvisionError):
            containers = self._project.get_containers(include_all=True)
            states = [f"{c.Service} is {c.State} {c.Health or ''} {c.ExitCode}" for c in containers]
            unwell = [c for c in containers if c.Health == "unhealthy" or (c.State == "exited" and c.ExitCode)]
            return [*states, *(line for c in unwell for line in logs(str(c.ID), _TAIL).splitlines())]
        return []

    def _end(self) -> None:
        self._endings.stop()
        try:
            self._project.stop()
        finally:
            if self._reader is not None:
                self._reader.stop()
            shutil.rmtree(self._home, ignore_errors=True)

    def _state(self, name: str) -> str:
        return self._inspect(name, "{{.State.Status}}")

    def _inspect(self, name: str, form: str) -> str:
        return docker("inspect", "--format", form, self._ids[name], timeout=_COMMAND).strip()

    def _do(self, verb: str, name: str) -> None:
        docker(verb, self._ids[name], timeout=_COMMAND)


def _words_for(variable: str) -> str:
    """What a secret is, in the words that a stack of processes has for it."""
    if variable == "TOKEN_SECRET":
        return "TASKWIRE_AUTH_HS256_SECRET"
    if variable.endswith("_PASSWORD"):
        return f"the password of {variable.removesuffix('_PASSWORD').removesuffix('_DATABASE').lower()}"
    return next((name for name in ("DAPR_API_TOKEN", "APP_API_TOKEN") if variable.endswith(name)), variable)
