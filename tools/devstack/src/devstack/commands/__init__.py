"""The commands behind `make run`, `make up`, `make status` and the rest."""

import argparse
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from devstack.console import Console
from devstack.layout import REPOSITORY, Layout
from devstack.services import read_dotenv

Command = Callable[[Layout, argparse.Namespace, Console], int]
"""Carries a command out on one stack; returns the exit code."""

_HOMES: Final[Mapping[str, str]] = {
    "run": "run",
    "up": "operate",
    "down": "operate",
    "reset": "operate",
    "stop": "operate",
    "start": "operate",
    "wait": "operate",
    "status": "look",
    "logs": "look",
    "psql": "psql",
    "token": "act",
    "demo": "act",
    "dlq": "dead_letters",
    "backup": "backups",
    "restore": "backups",
}


def dispatch(options: argparse.Namespace, console: Console) -> int:
    """Carry out the command that was parsed; returns the exit code."""
    layout = Layout.from_environment(settings())
    # Only the modules this command needs: a token shall not wait for a Kafka client to load.
    module = importlib.import_module(f"devstack.commands.{_HOMES[options.verb]}")
    command: Command = getattr(module, options.verb)
    return command(layout, options, console)


def settings() -> dict[str, str]:
    """Our environment, completed by `.env` (or the file named in TASKWIRE_ENV_FILE)."""
    file = Path(os.environ.get("TASKWIRE_ENV_FILE") or REPOSITORY / ".env")
    return {**read_dotenv(file), **os.environ}
