"""Two replicas of task-api: what one writes the other shows; when one stops, dies or freezes, nothing is lost."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import psutil
import pytest
from tests.e2e.coming_back import PATIENCE, patient_client

from chassis.event_source import event_source
from devstack.polling import within
from devstack.stack_under_test import StackUnderTest

pytestmark = [pytest.mark.e2e, pytest.mark.processes("two replicas of task-api")]

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "sync" / "local_copy.py"
REPLICAS: Final = ("task-api", "task-api-2")
Json = dict[str, Any]
_logger = logging.getLogger(__name__)


LEADER: Final = """
    SELECT activity.client_port FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[StackUnderTest]:
    """A stack with two replicas of task-api."""
    # Far beyond what a slow machine needs, so that nothing but the bound of the relay itself ends a leader's freeze.
    never = dict.fromkeys(("TASKWIRE_DATABASE_IDLE_TIMEOUT", "TASKWIRE_DATABASE_TRANSACTION_TIMEOUT"), "600")
    with StackUnderTest({"TASKWIRE_REPLICAS": "task-api=2"} | never) as stack:
        yield stack


@pytest.fixture
async def http(pair: StackUnderTest) -> AsyncIterator[httpx2.AsyncClient]:
    token = pair.token(f"alice-{time.time_ns()}")
    async with patient_client({"Authorization": f"Bearer {token}"}) as http:
        yield http


def tasks_at(pair: StackUnderTest, replica: str) -> str:
    return f"{pair.urls[replica]}/api/v1/tasks"


async def create(http: httpx2.AsyncClient, url: str, title: str) -> Json:
    response = await http.post(url, json={"title": title})
    assert response.status_code == 201, response.text
    task: Json = response.json()
    return task


async def test_a_change_at_one_replica_reaches_the_streams_of_both(
    pair: StackUnderTest, http: httpx2.AsyncClient
) -> None:
    here, there = (tasks_at(pair, replica) for replica in REPLICAS)
    async with event_source(http, f"{here}/stream", {}) as near, event_source(http, f"{there}/stream", {}) as far:
        for number in range(5):
            task = await create(http, here, f"{number}")
            assert (await near.next() or {})["task"] == task
            assert (await far.next() or {})["task"] == task


async def test_a_stream_of_a_replica_that_stops_goes_on_at_the_other_without_a_hole(
    pair: StackUnderTest, http: httpx2.AsyncClient
) -> None:
    here, there = (tasks_at(pair, replica) for replica in REPLICAS)
    async with event_source(http, f"{there}/stream", {}) as stream:
        await create(http, here, "before")
        assert (await stream.next() or {})["task"]["title"] == "before"
        await pair.kill(REPLICAS[1], signal.SIGTERM)
        assert await stream.next() is None
    missed = await create(http, here, "between")
    async with event_source(http, f"{here}/stream", {}, last_event_id=stream.last_event_id) as stream:
        assert (await stream.next() or {})["task"] == missed
    await pair.wait_ready(REPLICAS[1])


async def test_the_example_client_has_in_the_end_what_the_server_has_though_its_replica_is_killed(
    pair: StackUnderTest, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    here, there = (tasks_at(pair, replica) for replica in REPLICAS)
    tasks = [await create(http, here, f"{number}") for number in range(5)]
    file = tmp_path / "tasks.json"
    environment = os.environ | {"TOKEN": http.headers["Authorization"].removeprefix("Bearer ")}
    api = there.removesuffix("/tasks")
    client = await asyncio.create_subprocess_exec(sys.executable, str(EXAMPLE), api, str(file), env=environment)

    async def same() -> bool:
        listed = (await http.get(here, params={"limit": 200})).json()["items"]
        return file.exists() and json.loads(file.read_text())["tasks"] == {str(task["id"]): task for task in listed}

    try:
        assert await within(PATIENCE, same, 0.1)
        await http.patch(f"{here}/{tasks[0]['id']}", json={"title": "changed"})
        await http.delete(f"{here}/{tasks[1]['id']}")
        assert await within(PATIENCE, same, 0.1)
        await pair.kill(REPLICAS[1])
        await http.delete(f"{here}/{tasks[2]['id']}")
        await create(http, here, "while it is down")
        await pair.wait_ready(REPLICAS[1])
        assert await within(PATIENCE, same, 0.1)
        assert client.returncode is None
    finally:
        client.terminate()
        await client.wait()


async def leader_amid_a_publish(stack: StackUnderTest, database: "asyncpg.Connection[asyncpg.Record]") -> str:
    """Commit a change while no sidecar answers; give the replica whose relay waits for one, in its transaction."""
    for replica in REPLICAS:
        stack.pause(f"daprd-{replica}")
    headers = {"Authorization": f"Bearer {stack.token('tara')}"}
    async with patient_client(headers) as http:
        response = await http.post(f"{stack.urls['task-api']}/api/v1/tasks", json={"title": "who tells it"})
        assert response.status_code == 201, response.text
    found: list[str] = []

    async def is_found() -> bool:
        ports = {row["client_port"] for row in await database.fetch(LEADER)}
        found[:] = [
            replica
            for replica in REPLICAS
            if any(c.laddr.port in ports for c in psutil.Process(stack.pid(replica)).net_connections("tcp"))
        ]
        return bool(found)

    assert await within(PATIENCE, is_found, 0.02)
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
async def test_the_other_replica_takes_over_from_a_leader_that_ends_amid_a_publish(
    pair: StackUnderTest, number: signal.Signals
) -> None:
    database = await asyncpg.connect(pair.databases["task-api"])

    async def is_published() -> bool:
        return not await database.fetchval("SELECT EXISTS (SELECT FROM outbox)")

    try:
        assert await within(PATIENCE, is_published, 0.05)
        leader = await leader_amid_a_publish(pair, database)
        (other,) = set(REPLICAS) - {leader}
        if number is signal.SIGKILL:
            # Its sidecar stays frozen, so that nobody but the other can have done it.
            await pair.kill(leader, number)
        else:
            pair.pause(leader)
        began = time.monotonic()
        pair.resume(f"daprd-{other}")
        assert await within(PATIENCE, is_published, 0.02)
        _logger.info("%s: took over after %.2f s", number.name, time.monotonic() - began)
    finally:
        await database.close()
        for part in (*REPLICAS, *(f"daprd-{replica}" for replica in REPLICAS)):
            pair.resume(part)
        await pair.wait_all_ready()
