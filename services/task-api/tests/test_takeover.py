"""A relay in another process dies or freezes while it leads; the one that stood by takes over."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from typing_extensions import override

from chassis.correlation import new_id
from chassis.database import Database
from chassis.testing import PATIENCE, make_task_event
from devstack.polling import within
from task_api.outbox.relay import Relay
from task_api.outbox.repository import OutboxRepository
from task_events import EncodedEvent

LARGER_THAN_ANY_BUFFER = 40_000_000
"""Bytes: what the kernel grants a socket is 4 to 32 MiB."""


class CountingPublisher:
    """Takes everything."""

    open_for = 0.0

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        self.sent += [event.id for event in events]


@asynccontextmanager
async def leader_amid(doing: str, database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process whose relay leads and waits for an answer that never comes."""
    program = Path(__file__).with_name("hanging_relay.py")
    leader = await asyncio.create_subprocess_exec(
        sys.executable, str(program), database_url, "1", doing, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert leader.stdout is not None
        assert await leader.stdout.readline() == f"{doing}\n".encode()
        yield leader
    finally:
        if leader.returncode is None:
            leader.kill()
        await leader.wait()


async def commit_one(database: Database, description: str = "") -> str:
    event_id = new_id()
    data = make_task_event(1, description=description).data
    async with database.session() as session:
        await (await session.connection()).execute(
            text(
                "INSERT INTO outbox (id, aggregate_type, aggregate_id, aggregate_version, type, payload, occurred_at) "
                "VALUES (:id, 'task', 1, 1, 'task.created', CAST(:payload AS jsonb), now())"
            ),
            {"id": UUID(event_id), "payload": data.model_dump_json()},
        )
        await session.commit()
    return event_id


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_standby_takes_over_from_a_leader_that_dies_or_freezes_in_a_publish(
    database: Database, database_url: str, number: signal.Signals
) -> None:
    event_id = await commit_one(database)
    publisher = CountingPublisher()
    standby = Relay(database, publisher, batch_size=10, poll_interval=0.05)

    async def published() -> bool:
        return bool(publisher.sent)

    async with leader_amid("publishing", database_url) as leader, standby.running():
        assert not publisher.sent
        leader.send_signal(number)
        assert await within(PATIENCE, published, 0.05), "less than the ten minutes for any idle transaction of ours"
    assert publisher.sent == [event_id]


@pytest.mark.skipif(
    os.environ.get("TASKWIRE_TEST_POOLER") == "1",
    reason="through a pooler each statement is parsed anew: to PostgreSQL, who reads nothing is idle before it",
)
async def test_a_standby_takes_over_from_a_leader_that_freezes_while_it_reads_a_batch_larger_than_any_buffer(
    database: Database, database_url: str
) -> None:
    event_id = await commit_one(database, description="x" * LARGER_THAN_ANY_BUFFER)
    publisher = CountingPublisher()
    standby = Relay(database, publisher, batch_size=10, poll_interval=0.05)

    async def published() -> bool:
        return bool(publisher.sent)

    async def stuck() -> bool:
        async with database.session() as session:
            waits = text("SELECT wait_event FROM pg_stat_activity WHERE application_name = 'hanging-relay'")
            return bool((await (await session.connection()).scalar(waits)) == "ClientWrite")

    async with leader_amid("reading", database_url) as leader:
        assert await within(PATIENCE, stuck, 0.05)
        leader.send_signal(signal.SIGSTOP)
        async with standby.running():
            assert await within(PATIENCE, published, 0.05)
    assert publisher.sent == [event_id]


async def test_a_leader_that_comes_back_finds_its_transaction_ended_and_goes_on(
    database: Database, database_url: str
) -> None:
    event_id = await commit_one(database)

    async def nobody_leads() -> bool:
        async with database.session() as session:
            leading = text("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = "
                           "(SELECT oid FROM pg_database WHERE datname = current_database())")  # fmt: skip
            return (await (await session.connection()).scalar(leading)) is None

    class SlowPublisher(CountingPublisher):
        @override
        async def publish(self, events: Sequence[EncodedEvent]) -> None:
            await super().publish(events)
            if len(self.sent) == 1:
                assert await within(PATIENCE, nobody_leads, 0.1), "PostgreSQL has not ended the transaction"

    publisher = SlowPublisher()
    relay = Relay(database, publisher, batch_size=10, poll_interval=0.05, publish_timeout=-1.5)

    async def empty() -> bool:
        async with database.session() as session:
            return not (await OutboxRepository(session).backlog()).size

    async with relay.running():
        assert await within(PATIENCE, empty, 0.1)
    # Twice; on a machine so slow that one pass takes longer than the transaction may, more often.
    assert (set(publisher.sent), len(publisher.sent) >= 2) == ({event_id}, True)
