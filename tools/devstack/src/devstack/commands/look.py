"""Look at a stack: what runs, what it says."""

import argparse
import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

from devstack.console import Console
from devstack.failures import ProvisionError
from devstack.layout import HOST, Layout, Ports
from devstack.probe import http_status
from devstack.process import log_tail
from devstack.screen import status_table
from devstack.sidecar import APP_HEALTH_PATH
from devstack.state import StackReport, read_report

_LINES: Final = 200
_POLL: Final = 0.2


def status(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Show what runs where, for people or as one line of JSON."""
    report = read_report(layout)
    if report is None:
        nothing = {"running": False, "services": {}, "home": str(layout.home)}
        text = f"Taskwire is not running in {layout.home}. Start it: make up"
        text = json.dumps(nothing) if options.json else text
    else:
        text = json.dumps(report) if options.json else status_table(report, asyncio.run(_well(report)))
    sys.stdout.write(text + "\n")
    return 0


def logs(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Show the end of a part's log, and what comes."""
    name: str = options.service
    path = layout.log_file(name)
    if not name or not path.exists():
        known = ", ".join(sorted(path.stem for path in layout.logs.glob("*.log"))) or "none yet"
        what = f"there is no log of {name!r}" if name else "no part was named"
        raise ProvisionError(what, f"these have one: {known}", "Name one: make logs SERVICE=task-api [FOLLOW=1]")
    sys.stdout.writelines(f"{line}\n" for line in log_tail(path, _LINES))
    sys.stdout.flush()
    if options.follow:
        _follow(path)
    return 0


async def _well(report: StackReport) -> dict[str, bool]:
    """Which parts answer right now, whatever the supervisor thinks of them."""
    ports = Ports(report["port_base"])
    well = {"kafka": _listens(ports.kafka), "postgres": _listens(ports.postgres)}
    for name, place in report["services"].items():
        well[name] = await http_status(int(place["url"].rpartition(":")[2]), APP_HEALTH_PATH) is not None
        well[f"daprd-{name}"] = _listens(place["dapr_http"])
    return well


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex((HOST, port)) == 0


def _follow(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        while True:
            if chunk := file.read():
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
            elif path.exists() and path.stat().st_size < file.tell():
                file.seek(0)
            else:
                time.sleep(_POLL)
