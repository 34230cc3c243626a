"""What a stack for tests has beside docker-compose.yml: the ports of the sidecars, and a place for spans."""

from pathlib import Path
from typing import Final, TypedDict

import yaml

from containers import trace_sink
from containers.images import COMPOSE_FILE, service_images
from devstack.layout import HOST, Ports
from devstack.services import SERVICES

SINK: Final = "trace-sink"
_DAPR_HTTP: Final = 3500
_DAPR_GRPC: Final = 50001
_LISTENS: Final = f"import socket; socket.create_connection(('127.0.0.1', {trace_sink.PORT}), 4)"
_LOOPBACK_ALONE: Final = "--dapr-listen-addresses=127.0.0.1"
_EVERYWHERE: Final = "--dapr-listen-addresses=0.0.0.0"


class ComposeService(TypedDict, total=False):
    """What we look at, or write, of a service."""

    image: str
    command: list[str]
    entrypoint: list[str]
    environment: dict[str, str]
    volumes: list[str]
    ports: list[str]
    user: str
    read_only: bool
    cap_drop: list[str]
    healthcheck: dict[str, list[str] | str]


def compose_services() -> dict[str, ComposeService]:
    """The services of docker-compose.yml, its anchors resolved and its variables not."""
    services: dict[str, ComposeService] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    return services


def override(ports: Ports, spans: Path | None) -> str:
    """A file to merge over docker-compose.yml, as YAML.

    Args:
        ports: Where the sidecars shall be reached on the loopback address; tests play them their apps.
        spans: Where exported spans are kept, None for nowhere.
    """
    known = compose_services()
    services: dict[str, ComposeService] = {}
    for service in SERVICES:
        services[f"{service.name}-pod"] = {
            "ports": [
                f"{HOST}:{ports.dapr_http(service.index)}:{_DAPR_HTTP}",
                f"{HOST}:{ports.dapr_grpc(service.index)}:{_DAPR_GRPC}",
            ]
        }
        command = known[service.sidecar]["command"]
        services[service.sidecar] = {"command": [_EVERYWHERE if word == _LOOPBACK_ALONE else word for word in command]}
    if spans is not None:
        services[SINK] = {
            # Whichever: it has Python.
            "image": service_images()[0].name,
            "entrypoint": ["python", "/trace_sink.py", "/spans"],
            "volumes": [f"{trace_sink.__file__}:/trace_sink.py:ro", f"{spans}:/spans"],
            "read_only": True,
            "cap_drop": ["ALL"],
            # That of the image asks for the service.
            "healthcheck": {"test": ["CMD", "python", "-I", "-S", "-c", _LISTENS], "interval": "2s"},
        }
    written: str = yaml.safe_dump({"services": services})
    return written
