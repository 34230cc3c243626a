"""Take a backup of a running stack, and put it back."""

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from devstack import backups, control
from devstack.console import Console
from devstack.failures import ProvisionError
from devstack.layout import Layout
from devstack.state import RUNNING, StackReport, read_report

_CONTROL_TIMEOUT: Final = 120.0


def backup(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Dump every database of a running stack."""
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    directory = Path(options.to).expanduser() if options.to else layout.home / "backups" / name
    manifest = asyncio.run(backups.back_up(_databases(_report(layout)), directory))
    for service, found in manifest["databases"].items():
        rows = sum(found["rows"].values())
        sys.stdout.write(f"{service}: revision {found['revision']}, {rows} rows in {len(found['rows'])} tables\n")
    sys.stdout.write(f"In {directory}. To put it back: make restore FROM={directory}\n")
    return 0


def restore(layout: Layout, options: argparse.Namespace, console: Console) -> int:
    """Stop the services, put every database back, compare it with the backup, and start them again."""
    if not options.backup:
        raise ProvisionError("nothing was restored", "no backup was named", "Name one: make restore FROM=directory")
    report, directory = _report(layout), Path(options.backup).expanduser()
    backups.read_manifest(directory)
    parts = list(report["services"])
    with console.step("services are stopped"):
        for part in parts:
            control.ask(layout.run, "stop", part, _CONTROL_TIMEOUT)
    with console.step("databases"):
        asyncio.run(backups.restore(_databases(report), directory))
    found = asyncio.run(backups.differences(_databases(report), directory))
    sys.stdout.writelines(f"{line}\n" for line in found)
    if found:
        sys.stdout.write("The databases are not what the backup was taken of; the services stay down.\n")
        return 1
    with console.step("services are started"):
        for part in parts:
            control.ask(layout.run, "start", part, _CONTROL_TIMEOUT)
    sys.stdout.write("Restored: revisions, rows and the audit chain are what they were. The services run.\n")
    return 0


def _report(layout: Layout) -> StackReport:
    report = read_report(layout)
    if report is None or report["state"] != RUNNING:
        raise ProvisionError("there is no database", f"no stack runs in {layout.home}", "Start it: make up")
    return report


def _databases(report: StackReport) -> dict[str, str]:
    """Give one connection string for each service, however many replicas it has."""
    found: dict[str, str] = {}
    for name, service in report["services"].items():
        if service["postgres"] not in found.values():
            found[name] = service["postgres"]
    return found
