"""The one way to Docker's command line: what it said goes with the failure."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError

INSTALL: Final = "Install Docker with Compose 2.17 or newer and start it (docs/docker.md); DOCKER names another program"
_ANSWER_TIMEOUT: Final = 20.0
_LOGS_TIMEOUT: Final = 120.0
_TAIL: Final = 20


def docker_command() -> list[str]:
    """What is run as `docker`: the words of `$DOCKER`, for instance `sudo docker` or `podman`."""
    return shlex.split(os.environ.get("DOCKER") or "docker")


def absent() -> str | None:
    """Why Docker cannot be used here, in words for a person; None when it can."""
    command = docker_command()
    if shutil.which(command[0]) is None:
        return f"there is no {command[0]} on PATH"
    try:
        answer = subprocess.run(  # noqa: S603
            [*command, "version", "--format", "{{.Server.Version}}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=_ANSWER_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} does not answer ({type(error).__name__})"
    return None if answer.returncode == 0 else last_line(answer.stderr)


def require_docker() -> None:
    """Refuse to go on without Docker.

    Raises:
        ProvisionError: It is not there, or its engine does not answer.
    """
    why = absent()
    if why is not None:
        raise ProvisionError("this needs a Docker engine", why, INSTALL)


def docker(*arguments: str, timeout: float, environment: Mapping[str, str] | None = None) -> str:
    """Run one docker command to its end and give what it printed.

    Raises:
        ProvisionError: It failed, or took longer than `timeout` seconds; its last lines are in the notes.
    """
    return run_command([*docker_command(), *arguments], timeout=timeout, environment=environment)


def logs(container: str, lines: int) -> str:
    """The last lines that a container has logged, on either stream."""
    done = subprocess.run(  # noqa: S603
        [*docker_command(), "logs", "--tail", str(lines), container],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_LOGS_TIMEOUT,
    )
    return done.stdout


def run_command(
    argv: Sequence[str],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> str:
    """Run a program to its end and give what it wrote to its standard output.

    Raises:
        ProvisionError: It failed, or took longer than `timeout` seconds; its last lines are in the notes.
    """
    what = " ".join(argv[:3])
    try:
        done = subprocess.run(  # noqa: S603
            argv,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**os.environ, **(environment or {})},
            cwd=directory,
        )
    except OSError as error:
        raise ProvisionError(f"{what} could not be run", error.strerror or str(error), INSTALL) from error
    except subprocess.TimeoutExpired as error:
        raise ProvisionError(f"{what} did not end", f"it took longer than {timeout:.0f} s", "Try again") from error
    if done.returncode != 0:
        failure = ProvisionError(f"{what} failed", last_line(done.stderr), "What it said before follows")
        for line in [*done.stdout.splitlines()[-_TAIL:], *done.stderr.splitlines()[-_TAIL:]]:
            failure.add_note(line)
        raise failure
    return done.stdout


def last_line(output: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
