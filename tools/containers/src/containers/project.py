"""One project of Compose, driven by testcontainers."""

import os
import re
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Final

from testcontainers.compose import DockerCompose
from typing_extensions import override

from containers.docker import docker_command, last_line
from containers.environment import variables
from containers.images import COMPOSE_FILE
from devstack.failures import ProvisionError
from devstack.layout import REPOSITORY

_COMMAND: Final = 900.0
_TAIL: Final = 30
_VERBS: Final = ("up", "stop", "down", "ps")
_PORT: Final = re.compile(r"port is already allocated|address already in use")


class LostPortError(ProvisionError):
    """Somebody took a port between our look at it and our use of it."""


class Project(DockerCompose):
    """What testcontainers lacks: all words of `$DOCKER`, an end to every command, and no settings but those given."""

    def __init__(self, overrides: Path, settings: Path) -> None:
        """Name a project.

        Args:
            overrides: A file that is merged over docker-compose.yml.
            settings: Its variables, COMPOSE_PROJECT_NAME among them.
        """
        super().__init__(REPOSITORY, [str(COMPOSE_FILE), str(overrides)], env_file=[str(settings)])

    @cached_property
    @override
    def compose_command_property(self) -> list[str]:
        files = [word for file in self.compose_file_name or () for word in ("--file", file)]
        settings = [word for file in self.env_file or () for word in ("--env-file", file)]
        return [*docker_command(), "compose", *files, *settings]

    @override
    def _run_command(self, cmd: str | list[str], context: str | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run one command to its end.

        Raises:
            LostPortError: A port was free a moment ago.
            ProvisionError: It failed for another reason, or took too long; its last lines are in the notes.
        """
        words = [cmd] if isinstance(cmd, str) else cmd
        what = f"docker compose {next((word for word in words if word in _VERBS), '…')}"
        try:
            return subprocess.run(  # noqa: S603
                words,
                capture_output=True,
                check=True,
                cwd=context or REPOSITORY,
                env=_without_settings(),
                timeout=_COMMAND,
            )
        except subprocess.TimeoutExpired as error:
            raise ProvisionError(f"{what} did not end", f"it took longer than {_COMMAND:.0f} s", "Try again") from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr or b"").decode(errors="replace")
            kind = LostPortError if _PORT.search(said) else ProvisionError
            failure = kind(f"{what} failed", last_line(said), "make images or make images-local builds what is missing")
            for line in said.splitlines()[-_TAIL:]:
                failure.add_note(line)
            raise failure from error


def _without_settings() -> dict[str, str]:
    """Our environment but for what Compose would prefer to the settings of the project."""
    ours = variables()
    return {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("COMPOSE_")}
