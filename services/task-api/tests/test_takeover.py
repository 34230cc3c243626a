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


class CountingPublisher:
    """Takes everything."""

    open_for = 0.0

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        self.sent += [event.id for event in events]


@asynccontextmanager
async def leader_amid_a_publish(database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process whose relay leads and waits for an answer that never comes."""
    program = Path(__file__).with_name("hanging_relay.py")
    leader = await asyncio.create_subprocess_exec(
        sys.executable, str(program), database_url, "1", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert leader.stdout is not None
        assert await leader.stdout.readline() == b"publishing\n"
        yield leader
    finally:
        if leader.returncode is None:
            leader.kill()
        await leader.wait()


async def commit_one(database: Database) -> str:
    event_id = new_id()
    data = make_task_event(1).data
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

    async with leader_amid_a_publish(database_url) as leader, standby.running():
        assert not publisher.sent
        leader.send_signal(number)
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
