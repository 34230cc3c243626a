"""Two replicas of task-api: when the relay that publishes dies or freezes amid a publish, the other one takes over."""

import logging
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest
from tests.e2e.coming_back import PATIENCE, patient_client

from devstack.polling import within

if TYPE_CHECKING:
    from devstack.stack_under_test import StackUnderTest

pytestmark = [pytest.mark.e2e, pytest.mark.processes("two replicas of task-api")]
_logger = logging.getLogger(__name__)
REPLICAS = ("task-api", "task-api-2")
LEADER = """
    SELECT activity.client_port FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted
"""


@pytest.fixture(scope="module")
def pair() -> "Iterator[StackUnderTest]":
    from devstack.stack_under_test import StackUnderTest

    # Far beyond what a slow machine needs, so that nothing but the bound of the relay itself ends a leader's freeze.
    never = dict.fromkeys(("TASKWIRE_DATABASE_IDLE_TIMEOUT", "TASKWIRE_DATABASE_TRANSACTION_TIMEOUT"), "600")
    with StackUnderTest({"TASKWIRE_REPLICAS": "task-api=2"} | never) as running:
        yield running


async def leader_amid_a_publish(stack: "StackUnderTest", database: "asyncpg.Connection[asyncpg.Record]") -> str:
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
    pair: "StackUnderTest", number: signal.Signals
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
