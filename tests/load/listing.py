"""How long a page of tasks takes among 10,000 tasks and among 1,000,000; `make bench KIND=listing`.

Fills a PostgreSQL of its own and asks task-api in process, over its real statements, pool and serialization. Every
owner has 100 tasks; the last column is one owner who has all of them. Prints; asserts nothing: no timed test.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import asyncpg
import httpx2
import structlog

from chassis.migrations import upgrade
from chassis.testing import bearer, serving, settings_for
from devstack.throwaway import DatabaseFactory, ThrowawayPostgres
from task_api.app import create_app
from task_api.settings import TaskApiSettings

PER_OWNER: Final = 100
WARM_UP: Final = 30
LISTS: Final = (
    "",
    "completed=false",
    "sort=due_at",
    "completed=false&sort=-priority,due_at",
    "overdue=true&sort=due_at",
    "sort=-updated_at",
    "sort=position",
    "sort=title",
    "tag=tag3",
    "q=word12",
    "q=word1+more",
)
# Owners are drawn without a pattern, so that the tasks of one lie anywhere in the table, as they do in life.
FILL: Final = """
INSERT INTO tasks (owner_id, title, description, priority, due_at, completed, completed_at, tags, position,
                   version, created_at, updated_at)
SELECT 'owner-' || n * 7919::bigint % $2, 'word' || n * 7 % 5003 || ' word' || n % 97,
       CASE WHEN n % 2 = 0 THEN 'more' || n % 1009 END, (ARRAY['high', 'medium', 'low'])[1 + n % 3],
       CASE WHEN n % 4 > 0 THEN now() + (n % 20011 - 5000) * interval '1 minute' END,
       n % 5 = 1, CASE WHEN n % 5 = 1 THEN now() END, ARRAY['tag' || n % 13, 'tag' || n % 17 + 20],
       lpad(to_hex(n * 7919::bigint % 2000003), 14, '0'),
       1, now() - n * interval '1 second', now() - n * interval '1 second'
FROM generate_series(1, $1::bigint) AS n
"""


async def main(sizes: list[int], requests: int) -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    columns = [(size, size // PER_OWNER) for size in sizes] + [(sizes[-1], 1)]
    async with AsyncExitStack() as open_until_the_end:
        factory = DatabaseFactory(open_until_the_end.enter_context(ThrowawayPostgres()).server)
        asking = [
            (await open_until_the_end.enter_async_context(filled(factory, size, owners)), owners)
            for size, owners in columns
        ]
        found = {query: await medians(asking, query, requests) for query in LISTS}
    names = [f"{size:,}" + (" of one" if owners == 1 else "") for size, owners in columns]
    sys.stdout.write(f"{'p50 of a page of 20, ms':40}" + "".join(f"{name:>18}" for name in names) + "   growth\n")
    for query, seconds in found.items():
        times = [one * 1000 for one in seconds]
        growth = times[len(sizes) - 1] / times[0]
        row = "".join(f"{one:18.2f}" for one in times)
        sys.stdout.write(f"{query or '(newest first)':40}{row}   {growth:.2f}\N{MULTIPLICATION SIGN}\n")


@asynccontextmanager
async def filled(factory: DatabaseFactory, size: int, owners: int) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve an API over so many tasks of so many owners."""
    async with factory.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(FILL, size, owners, timeout=3600)
        await connection.execute("VACUUM ANALYZE tasks", timeout=3600)
        await connection.close()
        app = create_app(settings_for(TaskApiSettings, url, database_statement_timeout=60.0))
        async with serving(app) as client:
            yield client


async def medians(asking: Sequence[tuple[httpx2.AsyncClient, int]], query: str, requests: int) -> list[float]:
    """Give the median seconds of a list in each database; they take turns, so that all meet the same machine."""
    taken: list[list[float]] = [[] for _ in asking]
    for number in range(WARM_UP + requests):
        for (client, owners), times in zip(asking, taken, strict=True):
            times.append(await seconds_of(client, query, f"owner-{number * 31 % min(owners, 100)}"))
    return [statistics.median(times[WARM_UP:]) for times in taken]


async def seconds_of(client: httpx2.AsyncClient, query: str, owner: str) -> float:
    """Ask for a list once."""
    headers = bearer(owner)
    began = time.perf_counter()
    response = await client.get(f"/api/v1/tasks?limit=20&{query}", headers=headers)
    taken = time.perf_counter() - began
    response.raise_for_status()
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    asyncio.run(main(options.sizes, options.requests))
