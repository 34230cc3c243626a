"""What the audit trail makes of deliveries nobody wishes for, through the real sidecar and its bulk subscription."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from tests.e2e.coming_back import PATIENCE, patient_client

from chassis.testing import make_task_event
from devstack.polling import within
from task_events import CONTENT_TYPE, TaskEvent
from task_events.topics import AUDIT_DEAD_LETTER_TOPIC, TASKS_TOPIC

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e
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


async def letters(stack: "RunningStack", *bodies: bytes) -> list[bytes]:
    """Those of these bodies that are dead letters, each as often as it is: poison of other tests may still arrive."""
    connection = await asyncpg.connect(stack.databases["audit-worker"], ssl=False)
    try:
        query = "SELECT body FROM dead_letters WHERE body = ANY($1) ORDER BY body"
        return [row[0] for row in await connection.fetch(query, bodies)]
    finally:
        await connection.close()


async def records_in(kafka: str, topic: str) -> int:
    """Count what was ever put into a topic."""
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(topic, bootstrap_servers=kafka)
    await consumer.start()
    try:
        return sum((await consumer.end_offsets(list(consumer.assignment()))).values())
    finally:
        await consumer.stop()


async def execute(stack: "RunningStack", statement: str) -> None:
    connection = await asyncpg.connect(stack.databases["audit-worker"], ssl=False)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def versions_of(stack: "RunningStack", task: int) -> list[int]:
    connection = await asyncpg.connect(stack.databases["audit-worker"], ssl=False)
    try:
        rows = await connection.fetch(
            "SELECT task_version FROM audit_entries WHERE task_id = $1 ORDER BY sequence", task
        )
    finally:
        await connection.close()
    return [row[0] for row in rows]


async def open_gaps(stack: "RunningStack", task: int) -> list[tuple[int, int]]:
    headers = {"Authorization": f"Bearer {stack.token('olga', ['auditor'])}"}
    async with patient_client(headers) as http:
        response = await http.get(f"{stack.urls['audit-worker']}/api/v1/audit/gaps?open=true&task_id={task}")
    assert response.status_code == 200, response.text
    return [(gap["from_version"], gap["to_version"]) for gap in response.json()["items"]]


async def test_a_missing_version_is_reported_until_it_arrives(stack: "RunningStack") -> None:
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


async def test_poison_among_events_is_stored_alone_and_never_passes_through_the_sidecar(
    stack: "RunningStack",
) -> None:
    task = 910_000_002
    at = datetime.now(UTC)
    events = [make_task_event(task, version, occurred_at=at) for version in range(1, 8)]
    unstorable = make_task_event(task + 1, 1, title=UNSTORABLE)
    mark = str(at).encode()
    not_json, no_event = b"{ this is not JSON " + mark, b'{"specversion": "1.0", "id": "no event %s"}' % mark
    wanted = sorted([not_json, no_event, unstorable.to_json(), not_json + b"2"])
    dropped = await records_in(stack.kafka, AUDIT_DEAD_LETTER_TOPIC)
    await execute(stack, f"ALTER TABLE audit_entries ADD CONSTRAINT picky CHECK (task ->> 'title' <> '{UNSTORABLE}')")
    await stack.stop_part("daprd-audit-worker")  # so that all of it waits for it
    await publish(stack.kafka, not_json, *events[:3], unstorable, no_event, *events[3:], not_json + b"2", key=str(task))
    await stack.start_part("daprd-audit-worker")
    sidecar = stack.pid("daprd-audit-worker")

    async def settled() -> bool:
        return await letters(stack, *wanted) == wanted and len(await versions_of(stack, task)) == len(events)

    assert await within(PATIENCE, settled, 0.1), await letters(stack, *wanted)
    await execute(stack, "ALTER TABLE audit_entries DROP CONSTRAINT picky")
    assert await versions_of(stack, task) == list(range(1, 8))
    assert await letters(stack, *wanted) == wanted
    assert await records_in(stack.kafka, AUDIT_DEAD_LETTER_TOPIC) == dropped
    assert stack.pid("daprd-audit-worker") == sidecar
