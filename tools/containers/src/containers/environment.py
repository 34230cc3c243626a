"""The `.env` that docker-compose.yml asks for: random secrets, made once, readable by their owner only."""

import re
import secrets
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from containers.images import COMPOSE_FILE
from devstack.credentials import write_private

_REQUIRED: Final = re.compile(r"\$\{(\w+):\?")
_ANY: Final = re.compile(r"\$\{(\w+)")
_BYTES: Final = 32


def required_variables() -> list[str]:
    """Variables without which Compose starts nothing, in alphabetical order."""
    return sorted(set(_REQUIRED.findall(COMPOSE_FILE.read_text())))


def variables() -> set[str]:
    """Every variable that docker-compose.yml knows."""
    return set(_ANY.findall(COMPOSE_FILE.read_text()))


def complete(file: Path) -> list[str]:
    """Give each variable that is required and missing in this file a random value; returns their names.

    What the file has stays as it is: passwords are in the volumes of whoever started with them.
    """
    kept = file.read_text() if file.exists() else ""
    missing = [name for name in required_variables() if name not in read(file)]
    if missing:
        separator = "" if not kept or kept.endswith("\n") else "\n"
        added = "".join(f"{name}={secrets.token_urlsafe(_BYTES)}\n" for name in missing)
        write_private(file, kept + separator + added)
    return missing


def read(file: Path) -> dict[str, str]:
    """The variables of such a file, without their quotes; empty ones are as good as missing, for Compose too."""
    return {name: value for name, value in dotenv_values(file, interpolate=False).items() if value}
