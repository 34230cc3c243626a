"""PostgreSQL goes away under load and comes back: every request lands once, and nothing of ours is restarted."""

import asyncio
import signal
from collections.abc import Iterator

import asyncpg
import httpx2
import pytest
from sqlalchemy import text

from chassis.database import open_database
from chassis.migrations import upgrade
from chassis.settings import ServiceSettings
from chassis.testing import bearer, scrape, serving, settings_for
from devstack.databases import CONNECT_TIMEOUT, accepts_connections
from devstack.polling import within
from devstack.process import popen
from devstack.throwaway import ThrowawayPostgres
from task_api.app import create_app
from task_api.settings import TaskApiSettings

PATIENCE = 90.0
WRITERS = 8
EACH = 8
KEEPS_WHAT_IT_COMMITTED = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}
"""Through a crash of PostgreSQL, that is; it need not survive one of the machine."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres(KEEPS_WHAT_IT_COMMITTED) as postgres:
        upgrade("task_api", postgres.server.dsn())
        yield postgres


async def end(postgres: ThrowawayPostgres, how: signal.Signals) -> None:
    assert postgres._process is not None
    postgres._process.send_signal(how)
    await asyncio.to_thread(postgres._process.wait, 300)


def start(postgres: ThrowawayPostgres) -> None:
    postgres._process = popen(postgres.server.command(), postgres._log)


async def leads(client: httpx2.AsyncClient, wanted: float) -> bool:
    async def is_so() -> bool:
        return await scrape(client, "taskwire_outbox_relay_leader") == wanted

    return await within(PATIENCE, is_so, 0.05)


async def is_ready(client: httpx2.AsyncClient) -> bool:
    async def says_so() -> bool:
        return (await client.get("/health/ready")).status_code == 200

    return await within(PATIENCE, says_so, 0.1)


@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGQUIT], ids=["a restart", "a crash: what was not committed is gone"]
)
async def test_requests_that_are_sent_again_with_their_keys_land_once_each(
    postgres: ThrowawayPostgres, how: signal.Signals
) -> None:
    nobody = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
    app = create_app(settings_for(TaskApiSettings, postgres.server.dsn(), **nobody))
    refused, landed, half, away = [0], dict[str, int](), asyncio.Event(), asyncio.Event()

    async def make(client: httpx2.AsyncClient, title: str) -> int:
        """Ask until it is made, as a client does that was told to come back; gives its id."""
        made: list[int] = []

        async def is_made() -> bool:
            headers = bearer("alice") | {"Idempotency-Key": title}
            answer = await client.post("/api/v1/tasks", json={"title": title}, headers=headers)
            if answer.status_code == 201:
                made.append(answer.json()["id"])
                return True
            # Nothing but “come back”, or that the same request is still being looked after.
            assert answer.status_code in {409, 503}, answer.text
            assert int(answer.headers["Retry-After"]) >= 1
            refused[0] += 1
            return False

        assert await within(PATIENCE, is_made, 0.1)
        return made[0]

    async def write(client: httpx2.AsyncClient, writer: int) -> None:
        for number in range(EACH):
            if number == EACH - 1:
                await away.wait()  # or all of them might be through before it goes
            title = f"{how.name}-{writer}-{number}"
            landed[title] = await make(client, title)
            if len(landed) >= WRITERS * EACH // 3:
                half.set()

    async with serving(app) as client:
        writing = asyncio.gather(*(write(client, writer) for writer in range(WRITERS)))
        async with asyncio.timeout(PATIENCE):
            await half.wait()
        await end(postgres, how)
        away.set()

        async def is_noticed() -> bool:
            return refused[0] > 0

        assert await within(PATIENCE, is_noticed, 0.05)
        assert await leads(client, 0)
        start(postgres)
        await writing
        assert await leads(client, 1), "the relay is back, too"
        assert await is_ready(client)
        # Whoever did not get the answer asks again; here all do, and get the one they had.
        asked_again = await asyncio.gather(*(make(client, title) for title in landed))
        assert asked_again == list(landed.values())
    connection = await asyncpg.connect(postgres.server.dsn(), ssl=False, timeout=CONNECT_TIMEOUT)
    made = await connection.fetch("SELECT title FROM tasks WHERE title LIKE $1", f"{how.name}-%")
    events = await connection.fetchval(
        "SELECT count(*) FROM outbox WHERE payload->'task'->>'title' LIKE $1", f"{how.name}-%"
    )
    await connection.close()
    assert sorted(row["title"] for row in made) == sorted(landed), "each once"
    assert events == len(landed), "each with its event"


async def test_who_asked_nothing_meanwhile_notices_nothing_of_a_restart(postgres: ThrowawayPostgres) -> None:
    settings = settings_for(
        ServiceSettings, postgres.server.dsn(), database_pool_timeout=60, database_connect_timeout=60
    )
    database = open_database(settings, application_name="test")

    async def ask() -> int:
        async with database.session() as session:
            return int(await (await session.connection()).scalar(text("SELECT pg_backend_pid()")) or 0)

    before = set(await asyncio.gather(ask(), ask(), ask()))
    await end(postgres, signal.SIGINT)
    start(postgres)

    async def is_back() -> bool:
        return await accepts_connections(postgres.server)

    assert await within(PATIENCE, is_back, 0.05)
    after = set(await asyncio.gather(ask(), ask(), ask()))  # each on a connection that the server has closed
    assert not before & after
    await database.close()
