"""Which images there are: ours, and the public ones they and docker-compose.yml name."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devstack.layout import REPOSITORY
from devstack.services import SERVICES

DOCKERFILE: Final = REPOSITORY / "deploy" / "docker" / "Dockerfile"
COMPOSE_FILE: Final = REPOSITORY / "docker-compose.yml"
_ARGUMENT: Final = re.compile(r"^ARG (\w+)_IMAGE=(\S+)$", re.MULTILINE)
_COMPOSE_IMAGE: Final = re.compile(r"^\s+image: (\S+:\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class ServiceImage:
    """The image of one service.

    Attributes:
        service: Its name, which is also its directory below services/.
        version: The version in its pyproject.toml.
    """

    service: str
    version: str

    @property
    def name(self) -> str:
        """With its tag, as Compose and Kubernetes name it."""
        return f"taskwire/{self.service}:{self.version}"


def service_images() -> list[ServiceImage]:
    """One image per service."""
    return [ServiceImage(service.app_id, _version(service.app_id)) for service in SERVICES]


def base_images() -> dict[str, str]:
    """What the Dockerfile stands on: `python` and `uv`, each with its tag."""
    return {name.lower(): image for name, image in _ARGUMENT.findall(DOCKERFILE.read_text())}


def server_image(repository: str) -> str:
    """A public image that docker-compose.yml runs, with its tag; such as `postgres`, `apache/kafka`, `daprio/daprd`."""
    images: list[str] = _COMPOSE_IMAGE.findall(COMPOSE_FILE.read_text())
    named = {image for image in images if image.startswith(f"{repository}:")}
    (image,) = named
    return image


def _version(service: str) -> str:
    project = tomllib.loads((Path(REPOSITORY) / "services" / service / "pyproject.toml").read_text())
    version: str = project["project"]["version"]
    return version
