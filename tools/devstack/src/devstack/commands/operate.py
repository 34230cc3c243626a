"""Start and end a stack in the background, or one part of it."""

import argparse
import sys
from typing import Final

from devstack import background, control
from devstack.console import Console
from devstack.layout import Layout
from devstack.screen import welcome
from devstack.state import RUNNING, read_report

_CONTROL_TIMEOUT: Final = 120.0


def up(layout: Layout, _: argparse.Namespace, __: Console) -> int:
    """Start in the background, unless it runs already; returns when everything is ready."""
    report = read_report(layout)
    is_running = report is not None and report["state"] == RUNNING
    if not is_running and not background.start_in_background():
        return 1
    sys.stdout.write(f"\n{welcome(layout, foreground=False)}\n\n")
    return 0


def down(layout: Layout, _: argparse.Namespace, console: Console) -> int:
    """End the stack; fine when none runs."""
    if not background.stop(layout, console):
        sys.stdout.write(f"Taskwire is not running in {layout.home}.\n")
    return 0


def reset(layout: Layout, _: argparse.Namespace, console: Console) -> int:
    """End the stack and delete its data."""
    background.stop(layout, console)
    gone = background.delete_data(layout)
    lines = [f"Deleted {path}" for path in gone] or [f"There is nothing to delete in {layout.home}."]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def stop(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Stop one part; it stays down until it is started."""
    return _ask(layout, options, "stopped")


def start(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Start one part and wait until it is ready."""
    return _ask(layout, options, "ready")


def wait(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Wait until one part does its work."""
    return _ask(layout, options, "ready")


def _ask(layout: Layout, options: argparse.Namespace, outcome: str) -> int:
    control.ask(layout.run, options.verb, options.part, _CONTROL_TIMEOUT)
    sys.stdout.write(f"{options.part} is {outcome}.\n")
    return 0
