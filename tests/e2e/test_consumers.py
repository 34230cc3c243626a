"""What the audit trail makes of deliveries nobody wishes for, through the real sidecar and its bulk subscription."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from chassis.testing import make_task_event
from devstack.polling import within
from task_events import CONTENT_TYPE, TaskEvent
from task_events.topics import AUDIT_DEAD_LETTER_TOPIC, TASKS_TOPIC

if TYPE_CHECKING:
    from devstack.stack_under_test import StackUnderTest

pytestmark = pytest.mark.e2e
PATIENCE = 90.0
UNSTORABLE = "what the trail refuses"


async def publish(kafka: str, *records: TaskEvent | bytes, key: str) -> None:
    """Put records on one partition of the topic, past task-api."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for record in records:
            value = record.to_json() if isinstance(record, TaskEvent) else record
            headers = [("content-type", CONTENT_TYPE.encode())]
            await producer.send(TASKS_TOPIC, value, key=key.encode(), headers=headers)
        await producer.flush()
    finally:
        await producer.stop()


async def dead_letters(kafka: str) -> list[bytes]:
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        AUDIT_DEAD_LETTER_TOPIC, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        found: list[bytes] = []
        while len(found) < sum(ends.values()):
            batches = await consumer.getmany(timeout_ms=10_000)
            found += [record.value or b"" for batch in batches.values() for record in batch]
        return found
    finally:
        await consumer.stop()


async def execute(stack: "StackUnderTest", statement: str) -> None:
    connection = await asyncpg.connect(stack.databases["audit-worker"], ssl=False)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def versions_of(stack: "StackUnderTest", task: int) -> list[int]:
    connection = await asyncpg.connect(stack.databases["audit-worker"], ssl=False)
    try:
        rows = await connection.fetch(
            "SELECT task_version FROM audit_entries WHERE task_id = $1 ORDER BY sequence", task
        )
    finally:
        await connection.close()
    return [row[0] for row in rows]


async def open_gaps(stack: "StackUnderTest", task: int) -> list[tuple[int, int]]:
    headers = {"Authorization": f"Bearer {stack.token('olga', ['auditor'])}"}
    async with httpx2.AsyncClient(headers=headers, timeout=15) as http:
        response = await http.get(f"{stack.urls['audit-worker']}/api/v1/audit/gaps?open=true&task_id={task}")
    assert response.status_code == 200, response.text
    return [(gap["from_version"], gap["to_version"]) for gap in response.json()["items"]]


async def test_a_missing_version_is_reported_until_it_arrives(stack: "StackUnderTest") -> None:
    task = 910_000_001
    await publish(stack.kafka, *(make_task_event(task, version) for version in (1, 2, 5)), key=str(task))

    async def reported() -> bool:
        return await open_gaps(stack, task) == [(3, 4)]

    assert await within(PATIENCE, reported, 0.1)
    await publish(stack.kafka, make_task_event(task, 4), make_task_event(task, 3), key=str(task))

    async def closed() -> bool:
        return await open_gaps(stack, task) == []

    assert await within(PATIENCE, closed, 0.1)
    assert await versions_of(stack, task) == [1, 2, 5, 4, 3]


async def test_integers_too_large_for_a_double_come_through_the_sidecar_exactly(stack: "StackUnderTest") -> None:
    task = 2**53 + 1
    await publish(stack.kafka, make_task_event(task, 1), key=str(task))

    async def audited() -> bool:
        return await versions_of(stack, task) == [1]

    assert await within(PATIENCE, audited, 0.1)


async def test_poison_in_a_batch_is_dead_lettered_alone_and_the_sidecar_survives_it(stack: "StackUnderTest") -> None:
    task = 910_000_002
    at = datetime.now(UTC)
    events = [make_task_event(task, version, occurred_at=at) for version in range(1, 8)]
    unstorable = make_task_event(task + 1, 1, title=UNSTORABLE)
    not_json, no_event = b"{ this is not JSON " + str(at).encode(), b'{"specversion": "1.0", "id": "no event"}'
    poison = [not_json, no_event, unstorable.to_json()]
    before = await dead_letters(stack.kafka)
    await execute(stack, f"ALTER TABLE audit_entries ADD CONSTRAINT picky CHECK (task ->> 'title' <> '{UNSTORABLE}')")
    await stack.stop_part("daprd-audit-worker")  # so that all of it is one batch
    await publish(stack.kafka, not_json, *events[:3], unstorable, no_event, *events[3:], not_json + b"2", key=str(task))
    await stack.start_part("daprd-audit-worker")
    sidecar = stack.pid("daprd-audit-worker")

    async def audited() -> bool:
        return len(await versions_of(stack, task)) == len(events)

    assert await within(PATIENCE, audited, 0.1)
    assert await versions_of(stack, task) == list(range(1, 8))
    wanted = sorted([*poison, not_json + b"2"])

    async def dead_lettered() -> bool:
        return len(await dead_letters(stack.kafka)) >= len(before) + len(wanted)

    assert await within(PATIENCE, dead_lettered, 1)
    await execute(stack, "ALTER TABLE audit_entries DROP CONSTRAINT picky")
    assert sorted((await dead_letters(stack.kafka))[len(before) :]) == wanted
    assert stack.pid("daprd-audit-worker") == sidecar
