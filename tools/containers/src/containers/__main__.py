"""`python -m containers images|local|environment|sbom|demo|token|dlq`: what the Makefile calls."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from containers.building import build
from containers.deployment import demo, dlq, token
from containers.docker import require_docker
from containers.environment import complete
from containers.images import service_images
from containers.sbom import write_sbom
from containers.stand_ins import make_stand_ins
from devstack.commands import settings
from devstack.console import Console
from devstack.failures import ProvisionError
from devstack.layout import REPOSITORY, Layout

_MEGABYTE: Final = 1_000_000


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    console = Console.on(sys.stderr)
    command = _COMMANDS.get(" ".join(arguments))
    if command is None:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        return command(console) or 0
    except ProvisionError as error:
        console.failure(str(error))
        for note in getattr(error, "__notes__", []):
            console.say(f"  | {note}")
        return 1


def _images(console: Console) -> None:
    require_docker()
    for image in service_images():
        with console.step(image.name) as step:
            step.detail = f"{build(image) / _MEGABYTE:.0f} MB"


def _local(console: Console) -> None:
    require_docker()
    make_stand_ins(Layout.from_environment(settings()).cache, console)
    _images(console)


def _environment(console: Console) -> None:
    file = REPOSITORY / ".env"
    made = complete(file)
    console.say(f"{file}: {len(made)} secrets made" if made else f"{file} has all that docker-compose.yml asks for")


def _sbom(console: Console) -> None:
    require_docker()
    for image in service_images():
        console.say(str(write_sbom(image)))


_COMMANDS: Final[Mapping[str, Callable[[Console], int | None]]] = {
    "images": _images,
    "local": _local,
    "environment": _environment,
    "sbom": _sbom,
    "demo": lambda _: demo(),
    "token": lambda _: token(),
    "dlq": lambda _: dlq(),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
