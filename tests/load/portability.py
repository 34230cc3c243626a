"""How long an import and an export take, and how much memory, for 1,000 tasks and for 100,000.

Runs the real task-api on a PostgreSQL of its own, a new process for each line, and reads the peak of its resident
memory from the kernel. There is no sidecar: events are written and stay in the outbox. Prints; asserts nothing but that
every task is there: no timed test.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from chassis.migrations import upgrade
from chassis.testing import bearer
from chassis.testing_environment import environment_for
from devstack.service_process import running_service
from devstack.throwaway import DatabaseFactory, ThrowawayPostgres

TASKS: Final = "/api/v1/tasks"
TYPES: Final = {"json": "application/json", "csv": "text/csv"}
HEAD: Final = {
    "json": b'{"format": "taskwire-tasks", "version": 1, "tasks": [\n',
    "csv": b"id,parent_id,title,description,priority,due_at,tags,completed\r\n",
}


@dataclass
class Taken:
    """What it took."""

    sent_bytes: int = 0
    import_seconds: float = 0.0
    import_peak: int = 0
    export_seconds: float = 0.0
    export_bytes: int = 0
    peak: int = 0
    before: int = 0


def row(number: int, form: str, *, last: bool) -> bytes:
    """Make one task of a file; every fourth begins a tree of four."""
    parent, due = (number - 1 if number % 4 else None), f"2027-01-{1 + number % 28:02}T09:00:00Z"
    title, text = f"Task number {number}", "Some words about it, as people write them. " * 3
    if form == "csv":
        done = "true" if number % 5 == 0 else "false"
        return f'{number},{parent or ""},{title},"{text}",high,{due},"home,work",{done}\r\n'.encode()
    done = "true" if number % 5 == 0 else "false"
    line = (
        f'{{"id": {number}, "parent_id": {parent or "null"}, "title": "{title}", "description": "{text}", '
        f'"priority": "high", "due_at": "{due}", "tags": ["home", "work"], "completed": {done}}}'
    )
    return (line + ("\n]}\n" if last else ",\n")).encode()


async def file_of(count: int, form: str, taken: Taken) -> AsyncIterator[bytes]:
    """Give a file in pieces of about 64 KiB, none of which is kept."""
    piece = bytearray(HEAD[form])
    for number in range(1, count + 1):
        piece += row(number, form, last=number == count)
        if len(piece) > 65_536 or number == count:
            taken.sent_bytes += len(piece)
            yield bytes(piece)
            piece.clear()


def kibibytes(pid: int, name: str) -> int:
    """Read a figure of a process from the kernel."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


async def measure(factory: DatabaseFactory, count: int, form: str) -> Taken:
    """Import a file and export it again."""
    taken = Taken()
    async with (
        factory.fresh("task_api", lambda url: upgrade("task_api", url)) as database_url,
        running_service("task_api", environment_for(database_url), Path(os.devnull)) as service,
        httpx2.AsyncClient(timeout=3600, headers=bearer("alice")) as http,
    ):
        pid, url = service.process.pid, service.url
        await http.get(f"{url}{TASKS}")
        taken.before = kibibytes(pid, "VmHWM")
        began = time.perf_counter()
        headers = {"Content-Type": TYPES[form], "Idempotency-Key": "bench"}
        response = await http.post(f"{url}{TASKS}/import", content=file_of(count, form, taken), headers=headers)
        taken.import_seconds = time.perf_counter() - began
        if response.status_code != httpx2.codes.OK or response.json()["created"] != count:
            raise RuntimeError(response.text[:500])
        taken.import_peak = kibibytes(pid, "VmHWM")
        began = time.perf_counter()
        async with http.stream("GET", f"{url}{TASKS}/export?format={form}") as export:
            lines = 0
            async for piece in export.aiter_bytes():
                taken.export_bytes += len(piece)
                lines += piece.count(b"\n")
        taken.export_seconds = time.perf_counter() - began
        if lines != count + (1 if form == "csv" else 2):
            raise RuntimeError(f"{lines} lines were exported")
        taken.peak = kibibytes(pid, "VmHWM")
    return taken


async def main(sizes: list[int]) -> None:
    """Measure and print."""
    write = sys.stdout.write
    write("form  tasks     import            export            peak of RSS, MiB: before  import  export\n")
    with ThrowawayPostgres() as postgres:
        factory = DatabaseFactory(postgres.server)
        for form in TYPES:
            for size in sizes:
                taken = await measure(factory, size, form)
                write(
                    f"{form:5} {size:7,}  {taken.import_seconds:6.1f} s {taken.sent_bytes / 1e6:5.1f} MB  "
                    f"{taken.export_seconds:6.1f} s {taken.export_bytes / 1e6:5.1f} MB  "
                    f"{taken.before / 1024:24.0f} {taken.import_peak / 1024:7.0f} {taken.peak / 1024:7.0f}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000])
    asyncio.run(main(parser.parse_args().sizes))
