"""A relay in another process dies or freezes while it leads; the one that stood by takes over."""

import asyncio
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
from chassis.testing import make_task_event
from devstack.polling import within
from task_api.outbox.relay import Relay
from task_api.outbox.repository import OutboxRepository
from task_events import EncodedEvent

SOONER_THAN_THE_POOL = 45.0
"""Seconds: ample, and less than the 60 after which PostgreSQL ends any idle transaction of ours."""

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
        assert await within(SOONER_THAN_THE_POOL, published, 0.05)
    assert publisher.sent == [event_id]


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

    async with leader_amid("reading", database_url) as leader, standby.running():
        assert await within(SOONER_THAN_THE_POOL, stuck, 0.05)
        leader.send_signal(signal.SIGSTOP)
        assert await within(SOONER_THAN_THE_POOL, published, 0.05)
    assert publisher.sent == [event_id]


async def test_a_leader_that_comes_back_finds_its_transaction_ended_and_goes_on(
    database: Database, database_url: str
) -> None:
    await commit_one(database)

    class SlowPublisher(CountingPublisher):
        @override
        async def publish(self, events: Sequence[EncodedEvent]) -> None:
            await super().publish(events)
            await asyncio.sleep(0 if len(self.sent) > 1 else 3)

    publisher = SlowPublisher()
    relay = Relay(database, publisher, batch_size=10, poll_interval=0.05, publish_timeout=-2)

    async def empty() -> bool:
        async with database.session() as session:
            return not (await OutboxRepository(session).backlog()).size

    async with relay.running():
        assert await within(SOONER_THAN_THE_POOL, empty, 0.1)
    assert len(publisher.sent) == 2
