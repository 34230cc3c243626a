"""What commands print: where the services are, how to go on, what runs."""

import time
from collections.abc import Mapping, Sequence

from devstack.layout import DEFAULT_PORT_BASE, HOST, REPOSITORY, Layout
from devstack.services import SERVICES, url
from devstack.state import StackReport

_MINUTE = 60
_HOUR = 3600
_DAY = 86_400


def welcome(layout: Layout, *, foreground: bool) -> str:
    """Where everything is and what to try, for the end of `make run` and `make up`."""
    elsewhere = _elsewhere(layout)
    tasks = f"{url(SERVICES[0], layout.ports)}/api/v1/tasks"
    bearer = f"Authorization: Bearer $({token_command(layout, 'alice')})"
    task = '{"title": "Buy milk"}'
    lines = ["Taskwire is up.", ""]
    lines += [f"  {service.app_id:<14}{url(service, layout.ports)}" for service in SERVICES]
    lines += [
        "",
        f"  A token:    make -s token USER=alice{elsewhere}",
        "  A task:     (paste this)",
        f"curl -sS {tasks} -H \"{bearer}\" -H 'Content-Type: application/json' -d '{task}'",
        "",
        f"  The story:  make demo{elsewhere}",
        f"  The parts:  make status{elsewhere}",
        "  The end:    Ctrl-C" if foreground else f"  The end:    make down{elsewhere}",
    ]
    return "\n".join(lines)


def token_command(layout: Layout, user: str) -> str:
    """What to type, in any directory, to get a token for a user of this stack."""
    return f"make -s -C {REPOSITORY} token USER={user}{_elsewhere(layout)}"


def status_table(report: StackReport, well: Mapping[str, bool]) -> str:
    """One line per part."""
    rows = [("PART", "STATE", "PID", "UP", "RESTARTS", "ADDRESS")]
    addresses = _addresses(report)
    for name, part in sorted(report["parts"].items(), key=lambda item: list(addresses).index(item[0])):
        state = part["state"] if part["state"] != "ready" or well[name] else "not answering"
        up = age(time.time() - part["started_at"]) if part["started_at"] else "-"
        rows.append((name, state, str(part["pid"] or "-"), up, str(part["restarts"]), addresses[name]))
    return _aligned(rows) + f"\n\n{report['state']}, home {report['home']}, supervisor {report['supervisor_pid']}"


def age(seconds: float) -> str:
    """How long something has been up: 45s, 3m, 2h, 5d."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def _elsewhere(layout: Layout) -> str:
    """The settings that lead make to this stack, where it is not the usual one."""
    home = "" if layout.home == Layout.default_home() else f" TASKWIRE_HOME={layout.home}"
    base = "" if layout.ports.base == DEFAULT_PORT_BASE else f" TASKWIRE_PORT_BASE={layout.ports.base}"
    return home + base


def _addresses(report: StackReport) -> dict[str, str]:
    found = {}
    for name, place in report["services"].items():
        found[name] = place["url"]
        found[f"daprd-{name}"] = f"http://{HOST}:{place['dapr_http']} (gRPC {place['dapr_grpc']})"
    postgres = next(iter(report["services"].values()))["postgres"].rpartition("@")[2].partition("/")[0]
    return {**found, "kafka": report["kafka"], "postgres": postgres}


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
