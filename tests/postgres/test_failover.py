"""PostgreSQL goes away under load and comes back: every request lands once, and nothing of ours is restarted."""

import asyncio
import signal
from collections.abc import Iterator

import asyncpg
import httpx2
import pytest

from chassis.migrations import upgrade
from chassis.testing import bearer, serving, settings_for
from devstack.databases import CONNECT_TIMEOUT
from devstack.polling import within
from devstack.process import popen
from devstack.throwaway import ThrowawayPostgres
from task_api.app import create_app
from task_api.settings import TaskApiSettings

PATIENCE = 90.0
WRITERS = 8
EACH = 12


@pytest.fixture(scope="module")
def postgres() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as postgres:
        upgrade("task_api", postgres.server.dsn())
        yield postgres


def end(postgres: ThrowawayPostgres, how: signal.Signals) -> None:
    assert postgres._process is not None
    postgres._process.send_signal(how)
    postgres._process.wait(60)


@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGQUIT], ids=["a restart", "a crash: what was not committed is gone"]
)
async def test_requests_that_are_sent_again_with_their_keys_land_once_each(
    postgres: ThrowawayPostgres, how: signal.Signals
) -> None:
    nobody = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
    app = create_app(settings_for(TaskApiSettings, postgres.server.dsn(), **nobody))
    refused, landed, half = [0], list[str](), asyncio.Event()

    async def write(client: httpx2.AsyncClient, writer: int) -> None:
        for number in range(EACH):
            title = f"{how.name}-{writer}-{number}"
            headers = bearer("alice") | {"Idempotency-Key": title}

            async def is_made(title: str = title, headers: dict[str, str] = headers) -> bool:
                answer = await client.post("/api/v1/tasks", json={"title": title}, headers=headers)
                if answer.status_code == 201:
                    return True
                # Nothing but “come back”, or that the same request is still being looked after.
                assert answer.status_code in {409, 503}, answer.text
                assert int(answer.headers["Retry-After"]) >= 1
                refused[0] += 1
                return False

            assert await within(PATIENCE, is_made, 0.1)
            landed.append(title)
            if len(landed) >= WRITERS * EACH // 3:
                half.set()

    async with serving(app) as client:
        writing = asyncio.gather(*(write(client, writer) for writer in range(WRITERS)))
        async with asyncio.timeout(PATIENCE):
            await half.wait()
        await asyncio.to_thread(end, postgres, how)
        before = len(landed)

        async def is_noticed() -> bool:
            return refused[0] > 0

        assert await within(PATIENCE, is_noticed, 0.05)
        assert before < WRITERS * EACH, "it went away too late to matter"
        postgres._process = popen(postgres.server.command(), postgres._log)
        await writing
        assert (await client.get("/health/ready")).status_code == 200
    connection = await asyncpg.connect(postgres.server.dsn(), ssl=False, timeout=CONNECT_TIMEOUT)
    made = await connection.fetch("SELECT title FROM tasks WHERE title LIKE $1", f"{how.name}-%")
    events = await connection.fetchval(
        "SELECT count(*) FROM outbox WHERE payload->'task'->>'title' LIKE $1", f"{how.name}-%"
    )
    await connection.close()
    assert sorted(row["title"] for row in made) == sorted(landed), "each once"
    assert events == len(landed), "each with its event"
