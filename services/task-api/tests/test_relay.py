"""The relay against a real database, with a publisher that fails as it is told."""

import asyncio
import math
import os
from collections.abc import Sequence
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from chassis.correlation import new_id
from chassis.database import Database, DatabaseUnavailableError, open_database
from chassis.publisher import Publisher, PublishError, RefusedError
from chassis.testing import PATIENCE, make_task_event, settings_for
from devstack.polling import within
from task_api.outbox.models import OutboxEvent
from task_api.outbox.relay import Pass, Relay
from task_api.outbox.repository import OutboxRepository
from task_api.settings import TaskApiSettings
from task_events import EncodedEvent, TaskEvent, parse_task_event


class RecordingPublisher:
    """Takes events, or fails: whole calls, or single events by subject."""

    def __init__(self) -> None:
        self.batches: list[list[TaskEvent]] = []
        self.down = False
        self.refused: set[str] = set()
        self.before_answer = asyncio.Event()
        self.before_answer.set()
        self.called = asyncio.Event()
        self.open_for = 0.0
        self.calls = 0

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        self.calls += 1
        self.called.set()
        await self.before_answer.wait()
        if self.down:
            raise PublishError("sidecar down")
        self.batches.append([parse_task_event(event.body) for event in events if event.subject not in self.refused])
        if any(event.subject in self.refused for event in events):
            raise RefusedError("message too large")

    @property
    def sent(self) -> list[tuple[str, int]]:
        return [(event.subject, event.data.task.version) for batch in self.batches for event in batch]


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture(autouse=True)
def long_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is given time to read a second batch while the first is on its way."""
    monkeypatch.setattr("task_api.outbox.relay._LONGEST_PASS", PATIENCE)


def relay_of(database: Database, publisher: Publisher, *, batch_size: int = 10, poll_interval: float = 0.05) -> Relay:
    """Make a relay that no machine is too slow for: while it publishes, PostgreSQL waits as long as the test does."""
    return Relay(database, publisher, batch_size=batch_size, poll_interval=poll_interval, publish_timeout=PATIENCE)


@pytest.fixture
def relay(database: Database, publisher: RecordingPublisher) -> Relay:
    return relay_of(database, publisher)


async def commit(database: Database, *events: TaskEvent) -> list[UUID]:
    async with database.session() as session:
        rows = [
            OutboxEvent(
                id=UUID(new_id()),
                aggregate_type="task",
                aggregate_id=int(event.subject),
                aggregate_version=event.data.task.version,
                type=event.type.value,
                payload=event.data.model_dump(mode="json"),
                traceparent=event.traceparent,
                occurred_at=event.data.occurred_at,
            )
            for event in events
        ]
        await OutboxRepository(session).add_many(rows)
        await session.commit()
        return [row.id for row in rows]


async def waiting(database: Database) -> int:
    async with database.session() as session:
        return (await OutboxRepository(session).backlog()).size


async def drain(relay: Relay) -> None:
    while await relay.relay_once() is Pass.SENT:
        pass


async def test_a_committed_event_is_published_with_its_own_id_and_removed(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    event = make_task_event(7)
    (row_id,) = await commit(database, event)
    assert await relay.relay_once() is Pass.SENT
    ((sent,),) = publisher.batches
    assert sent == event.model_copy(update={"id": str(row_id), "traceparent": sent.traceparent})
    assert await waiting(database) == 0
    assert await relay.relay_once() is Pass.IDLE


async def test_a_batch_never_holds_two_events_of_one_task(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    await commit(database, *(make_task_event(task, version) for version in (1, 2, 3) for task in (1, 2)))
    await drain(relay)
    assert [[(e.subject, e.data.task.version) for e in batch] for batch in publisher.batches] == [
        [("1", 1), ("2", 1)],
        [("1", 2), ("2", 2)],
        [("1", 3), ("2", 3)],
    ]


async def test_versions_that_were_committed_out_of_order_are_published_in_order(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    await commit(database, make_task_event(1, 2))
    await commit(database, make_task_event(1, 1))
    await drain(relay)
    assert publisher.sent == [("1", 1), ("1", 2)]


async def test_when_the_sidecar_is_down_events_stay_and_flow_later(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    await commit(database, make_task_event(1), make_task_event(2))
    publisher.down = True
    assert await relay.relay_once() is Pass.FAILED
    assert await waiting(database) == 2
    publisher.down = False
    await drain(relay)
    assert sorted(publisher.sent) == [("1", 1), ("2", 1)]


async def test_a_refused_event_stays_with_its_reason_and_holds_back_only_its_own_task(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    await commit(database, make_task_event(1, 1), make_task_event(1, 2), make_task_event(2, 1), make_task_event(2, 2))
    publisher.refused = {"1"}
    for _ in range(8):
        await relay.relay_once()
    assert set(publisher.sent) == {("2", 1), ("2", 2)}
    async with database.session() as session:
        rows = (
            await (await session.connection()).execute(text("SELECT attempts, last_error FROM outbox ORDER BY id"))
        ).all()
    (attempts, reason), behind_it = map(tuple, rows)
    assert attempts >= 1, "tried again only when its time has come, which on a slow machine it has"
    assert (reason, behind_it) == ("message too large", (0, None))
    publisher.refused = set()
    async with relay.running():
        await wait_until_empty(database)
    assert publisher.sent[-2:] == [("1", 1), ("1", 2)]


async def wait_until_empty(database: Database) -> None:
    async def is_empty() -> bool:
        return not await waiting(database)

    assert await within(PATIENCE, is_empty, 0.02)


async def test_only_one_relay_publishes_at_a_time(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    await commit(database, make_task_event(1))
    publisher.before_answer.clear()
    leader = asyncio.create_task(relay.relay_once())
    await publisher.called.wait()
    standby = relay_of(database, publisher)
    assert await standby.relay_once() is Pass.STANDBY
    publisher.before_answer.set()
    assert await leader is Pass.SENT
    assert await standby.relay_once() is Pass.IDLE
    assert publisher.sent == [("1", 1)]


async def test_a_relay_that_dies_after_publishing_leaves_the_event_for_the_next_one(
    database: Database, database_url: str, relay: Relay, publisher: RecordingPublisher
) -> None:
    (row_id,) = await commit(database, make_task_event(1))
    publisher.before_answer.clear()
    dying = asyncio.create_task(relay.relay_once())
    await publisher.called.wait()
    await terminate_other_connections(database_url)  # what PostgreSQL sees of a SIGKILL
    publisher.before_answer.set()
    assert await dying is Pass.FAILED
    successor = relay_of(database, publisher)
    assert await successor.relay_once() is Pass.SENT
    assert [event.id for batch in publisher.batches for event in batch] == [str(row_id), str(row_id)]


async def terminate_other_connections(database_url: str) -> None:
    killer = open_database(settings_for(TaskApiSettings, database_url), application_name="killer")
    async with killer.session() as session:
        await (await session.connection()).execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND usename = current_user"  # a pooler has connections of its own
            )
        )
    await killer.close()


async def test_a_wake_is_answered_before_the_next_poll(database: Database, publisher: RecordingPublisher) -> None:
    relay = relay_of(database, publisher, poll_interval=600)
    async with relay.running():
        await commit(database, make_task_event(1))
        relay.wake()
        await wait_until_empty(database)


async def test_without_a_wake_polling_finds_what_another_process_committed(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    async with relay.running():
        await commit(database, make_task_event(1))
        await wait_until_empty(database)
    assert publisher.sent == [("1", 1)]


async def test_a_stop_finishes_the_batch_in_hand(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    await commit(database, make_task_event(1))
    publisher.before_answer.clear()
    async with relay.running():
        await publisher.called.wait()
        asyncio.get_running_loop().call_later(0.05, publisher.before_answer.set)
    assert publisher.sent == [("1", 1)]
    assert await waiting(database) == 0


async def test_the_backlog_can_be_seen(database: Database, relay: Relay, publisher: RecordingPublisher) -> None:
    publisher.down = True
    await commit(database, make_task_event(1), make_task_event(2))
    await relay.relay_once()
    await relay.observe()
    assert REGISTRY.get_sample_value("taskwire_outbox_backlog_events") == 2
    assert (REGISTRY.get_sample_value("taskwire_outbox_backlog_age_seconds") or 0) > 0


async def test_a_stopped_database_does_not_end_the_relay(publisher: RecordingPublisher) -> None:
    nowhere = open_database(settings_for(TaskApiSettings), application_name="test")
    assert await relay_of(nowhere, publisher).relay_once() is Pass.FAILED


@pytest.mark.skipif(
    os.environ.get("TASKWIRE_TEST_POOLER") == "1",
    reason="through a pooler statements have no name and no kept plan",
)
async def test_no_read_of_due_events_uses_a_plan_made_for_another_backlog(database: Database) -> None:
    """On an empty table, its usual state, PostgreSQL settles for one plan at the sixth time, and keeps it."""
    async with database.session() as session:
        outbox = OutboxRepository(session)
        assert await outbox.lead(patience=5)
        for _ in range(7):
            await outbox.due(10)
        read = "statement LIKE '%FROM outbox AS event%' AND statement NOT LIKE '%pg_prepared%'"
        plans = text(f"SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE {read}")
        assert tuple((await (await session.connection()).execute(plans)).one()) == (0, 7)


async def test_a_batch_is_bounded_by_bytes_and_one_large_event_is_a_batch(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    large, larger = "x" * 900_000, "x" * 3_000_000
    await commit(database, *(make_task_event(task, description=large) for task in range(1, 6)))
    await commit(database, make_task_event(6, description=larger), make_task_event(7))
    await drain(relay)
    assert [[event.subject for event in batch] for batch in publisher.batches] == [
        ["1", "2"],
        ["3", "4"],
        ["5"],
        ["6"],
        ["7"],
    ]


async def test_a_backlog_is_sent_two_batches_at_a_time_that_share_no_task(
    database: Database, publisher: RecordingPublisher
) -> None:
    relay = relay_of(database, publisher, batch_size=3)
    await commit(database, *(make_task_event(task, version) for task in range(1, 7) for version in (1, 2)))
    publisher.before_answer.clear()
    passing = asyncio.create_task(relay.relay_once())
    assert await within(PATIENCE, lambda: returning(publisher.calls == 2), 0.01)
    await asyncio.sleep(0.2)
    assert publisher.calls == 2
    publisher.before_answer.set()
    assert await passing is Pass.SENT
    await drain(relay)
    assert [event.subject for batch in publisher.batches[:2] for event in batch] == ["1", "2", "3", "4", "5", "6"]
    assert sorted(publisher.sent) == [(str(task), version) for task in range(1, 7) for version in (1, 2)]
    for task in range(1, 7):
        assert [version for subject, version in publisher.sent if subject == str(task)] == [1, 2]
    assert await waiting(database) == 0


async def test_when_a_batch_fails_the_one_sent_beside_it_is_settled_all_the_same(
    database: Database, publisher: RecordingPublisher
) -> None:
    relay = relay_of(database, publisher, batch_size=2)
    await commit(database, *(make_task_event(task) for task in range(1, 9)))
    publisher.refused = {"1"}
    assert await relay.relay_once() is Pass.FAILED
    assert [[event.subject for event in batch] for batch in publisher.batches] == [["2"], ["3", "4"]]
    assert await waiting(database) == 6


async def returning(value: bool) -> bool:
    return value


async def test_the_gauges_say_so_when_nobody_knows_what_waits(publisher: RecordingPublisher) -> None:
    nowhere = open_database(settings_for(TaskApiSettings), application_name="test")
    relay = relay_of(nowhere, publisher)
    with pytest.raises(DatabaseUnavailableError):
        await relay.observe()
    assert await relay.relay_once() is Pass.FAILED
    for gauge in ("backlog_events", "backlog_age_seconds"):
        assert math.isnan(REGISTRY.get_sample_value(f"taskwire_outbox_{gauge}") or 0)
    assert REGISTRY.get_sample_value("taskwire_outbox_relay_leader") == 0


async def test_a_standby_shows_the_backlog_and_does_not_pass_for_the_leader(
    database: Database, relay: Relay, publisher: RecordingPublisher
) -> None:
    await commit(database, make_task_event(1), make_task_event(2))
    async with database.session() as session:
        assert await OutboxRepository(session).lead(patience=30)
        async with relay.running():
            shown = ("backlog_events", "relay_leader")

            async def both_are_seen() -> bool:  # the gauges are the process's: another test may have led
                values = [REGISTRY.get_sample_value(f"taskwire_outbox_{name}") for name in shown]
                return values == [2, 0]

            assert await within(PATIENCE, both_are_seen, 0.05)
    assert not publisher.batches


async def test_publishes_are_timed(database: Database, relay: Relay) -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("taskwire_outbox_publish_seconds_count") or 0

    before = count()
    await commit(database, make_task_event(1))
    await relay.relay_once()
    assert count() == before + 1
