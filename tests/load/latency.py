"""How long a change takes from its acknowledgement to its row in the audit trail; `make bench`.

Runs against the stack that is up. Writes at a steady rate and looks into audit-worker's database every few
milliseconds, so a figure is at most one look too high. Prints; asserts nothing: no timed test.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Mapping

import asyncpg
import httpx2

from devstack.commands import settings
from devstack.credentials import Credentials
from devstack.layout import Layout
from devstack.state import read_report
from devstack.tokens import make_token

LOOK_EVERY = 0.002
PATIENCE = 60.0
WARM_UP = 20


async def main(events: int, rate: float) -> int:
    """Measure and print."""
    layout = Layout.from_environment(settings())
    report, credentials = read_report(layout), Credentials.load(layout.credentials_file)
    if report is None or credentials is None:
        sys.stderr.write("no stack is running: start it with make up\n")
        return 1
    urls = {name: service["url"] for name, service in report["services"].items()}
    headers = {"Authorization": f"Bearer {make_token(credentials.auth_secret, 'bench', [], 3600)}"}
    audit = await asyncpg.connect(report["services"]["audit-worker"]["postgres"])
    async with httpx2.AsyncClient(headers=headers, timeout=10) as http:
        await measure(http, audit, urls, WARM_UP, rate)
        requests, ways = await measure(http, audit, urls, events, rate)
    await audit.close()
    print_row("POST /tasks", requests)
    print_row("acknowledged → audit row", ways)
    return 0


async def measure(
    http: httpx2.AsyncClient, audit: asyncpg.Connection, urls: Mapping[str, str], events: int, rate: float
) -> tuple[list[float], list[float]]:
    """Create tasks at a rate; give the seconds of each request and of each way to the trail."""
    last = await audit.fetchval("SELECT coalesce(max(sequence), 0) FROM audit_entries")
    seen: dict[int, float] = {}
    acknowledged: dict[int, float] = {}
    watcher = asyncio.create_task(watch(audit, last, events, seen))
    requests = []
    began = time.perf_counter()
    for number in range(events):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent = time.perf_counter()
        response = await http.post(f"{urls['task-api']}/api/v1/tasks", json={"title": f"bench {number}"})
        response.raise_for_status()
        acknowledged[response.json()["id"]] = time.perf_counter()
        requests.append(acknowledged[response.json()["id"]] - sent)
    await asyncio.wait_for(watcher, PATIENCE)
    # The trail may have the entry before the caller has read the answer: that counts as no time at all.
    return requests, [max(0.0, seen[task] - at) for task, at in acknowledged.items()]


async def watch(audit: asyncpg.Connection, last: int, events: int, seen: dict[int, float]) -> None:
    """Note when each new entry is first seen, until there are enough."""
    while len(seen) < events:
        rows = await audit.fetch("SELECT sequence, task_id FROM audit_entries WHERE sequence > $1", last)
        now = time.perf_counter()
        for row in rows:
            last = max(last, row["sequence"])
            seen[row["task_id"]] = now
        await asyncio.sleep(LOOK_EVERY)


def print_row(name: str, seconds: list[float]) -> None:
    """Print a line of milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    figures = (("p50", cuts[49]), ("p95", cuts[94]), ("p99", cuts[98]), ("max", max(seconds)))
    line = "  ".join(f"{label} {value * 1e3:7.1f} ms" for label, value in figures)
    sys.stdout.write(f"{name:26} n={len(seconds):<4} {line}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0, help="changes per second")
    given = parser.parse_args()
    raise SystemExit(asyncio.run(main(given.events, given.rate)))
