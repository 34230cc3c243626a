"""Builds the image of each service."""

import os
import subprocess
from pathlib import Path
from typing import Final

from containers.docker import docker
from containers.images import DOCKERFILE, ServiceImage
from devstack.layout import REPOSITORY

_BUILD_TIMEOUT: Final = 1_800.0
_UNKNOWN: Final = "unknown"


def build(image: ServiceImage) -> int:
    """Build one image; returns its size in bytes.

    What this machine needs to reach its package registry goes along as secrets, which no image keeps: the certificates
    in SSL_CERT_FILE and the settings of uv in UV_CONFIG_FILE.

    Raises:
        ProvisionError: The build failed.
    """
    arguments = {
        "SERVICE": image.service,
        "VERSION": image.version,
        "REVISION": revision(),
        "SOURCE": os.environ.get("SOURCE") or _UNKNOWN,
    }
    options = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    docker(
        "build",
        # The build needs the registry that pip and uv are set up for here, by whatever way this machine reaches it.
        "--network=host",
        *(part for secret in _secrets() for part in ("--secret", secret)),
        *options,
        "--file",
        str(DOCKERFILE),
        "--tag",
        image.name,
        str(REPOSITORY),
        timeout=_BUILD_TIMEOUT,
        environment={"DOCKER_BUILDKIT": "1"},
    )
    return size(image.name)


def size(name: str) -> int:
    """How large an image is, in bytes, unpacked."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", name, timeout=60.0))


def revision() -> str:
    """The commit this checkout stands on, marked when files differ from it."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            check=False,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
    except OSError:
        return _UNKNOWN
    return answer.stdout.strip() or _UNKNOWN


def _secrets() -> list[str]:
    files = {"certificates": os.environ.get("SSL_CERT_FILE"), "uv": os.environ.get("UV_CONFIG_FILE")}
    return [f"id={name},src={Path(file).absolute()}" for name, file in files.items() if file]
