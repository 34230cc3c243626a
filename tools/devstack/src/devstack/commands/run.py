"""Run a stack in this process."""

import argparse
import sys

from devstack import background
from devstack.commands import settings
from devstack.console import Console
from devstack.layout import Layout
from devstack.screen import welcome
from devstack.supervisor import Supervisor


def run(layout: Layout, options: argparse.Namespace, console: Console) -> int:
    """Prepare, start and keep a stack until somebody ends it."""
    ready_fd: int | None = options.ready_fd

    def on_ready() -> None:
        if ready_fd is None:
            sys.stdout.write(f"\n{welcome(layout, foreground=True)}\n\n")
            sys.stdout.flush()
        else:
            background.step_back(layout, ready_fd, console)

    Supervisor(layout, settings(), console, on_ready).run()
    return 0
