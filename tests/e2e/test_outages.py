"""An outage of the database behind the consumers, longer than anything in Kafka or Dapr waits for a consumer."""

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer
from tests.e2e.coming_back import PATIENCE

from chassis.testing import make_task_event
from devstack.polling import within
from task_events import TaskEvent
from task_events.topics import AUDIT_DEAD_LETTER_TOPIC, NOTIFIER_DEAD_LETTER_TOPIC, TASKS_TOPIC

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from tests.e2e.conftest import Gauges

    from devstack.running_stack import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("whole_again")]

OUTAGE = 70.0
"""Seconds. What Kafka and Dapr's component grant a consumer: 10 s without a heartbeat, 60 s to rejoin its group."""

EVENTS = 70
TABLES = {"audit-worker": "audit_entries", "notifier": "notifications"}


async def letters_in_kafka(kafka: str) -> int:
    """How many messages were ever put on the dead-letter topics."""
    topics = (AUDIT_DEAD_LETTER_TOPIC, NOTIFIER_DEAD_LETTER_TOPIC)
    reader: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(*topics, bootstrap_servers=kafka)
    await reader.start()
    try:
        return sum((await reader.end_offsets(list(reader.assignment()))).values())
    finally:
        await reader.stop()


async def column(dsn: str, query: str, *arguments: object) -> list[str]:
    connection = await asyncpg.connect(dsn, ssl=False)
    try:
        return [row[0] for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def breaker_state(gauges: "Gauges", service: str) -> float:
    return await gauges.read(service, "taskwire_breaker_state", call="database")


async def retried(gauges: "Gauges", service: str) -> float:
    return await gauges.read(service, "taskwire_event_deliveries_total", status="RETRY")


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_a_database_that_is_away_for_longer_than_a_minute_makes_no_dead_letter(
    past_taskwire: "AIOKafkaProducer[bytes, bytes]", gauges: "Gauges", stack: "RunningStack", how: str
) -> None:
    first = time.time_ns() // 1000
    events = [make_task_event(first + number) for number in range(EVENTS)]
    letters = await letters_in_kafka(stack.kafka)
    parts = {name: stack.pid(name) for name in stack.part_names if name != "postgres"}
    retried_before = {service: await retried(gauges, service) for service in TABLES}
    if how == "frozen":
        stack.pause("postgres")
    else:
        await stack.stop_part("postgres")
    began = time.monotonic()
    for event in events:
        await past_taskwire.send_and_wait(TASKS_TOPIC, event.to_json(), key=event.subject.encode())
        await asyncio.sleep(OUTAGE / EVENTS)
    async with httpx2.AsyncClient(timeout=PATIENCE) as http:
        for service in TABLES:

            async def is_tried_in_vain(service: str = service) -> bool:
                tries = await retried(gauges, service) - retried_before[service]
                return tries > 5 and await breaker_state(gauges, service) > 0

            assert await within(PATIENCE, is_tried_in_vain, 0.2), "nothing was delivered meanwhile"
            assert (await http.get(f"{stack.urls[service]}/health/ready")).status_code == 503
    assert time.monotonic() - began >= OUTAGE
    if how == "frozen":
        stack.resume("postgres")
    else:
        await stack.start_part("postgres")
    await stack.wait_all_ready()
    for service, table in TABLES.items():
        await has_all(stack.databases[service], table, events)

        async def is_closed(service: str = service) -> bool:
            return await breaker_state(gauges, service) == 0

        assert await within(PATIENCE, is_closed, 0.2)
    assert await letters_in_kafka(stack.kafka) == letters
    assert parts == {name: stack.pid(name) for name in parts}, "a part was restarted"


async def has_all(dsn: str, table: str, events: list[TaskEvent]) -> None:
    """Wait until a consumer has each of these events, once, and none of them is a dead letter."""
    tasks, ids = [event.data.task.id for event in events], [event.id for event in events]
    query = f"SELECT event_id FROM {table} WHERE task_id BETWEEN $1 AND $2 ORDER BY task_id"
    found = list[str]()

    async def complete() -> bool:
        found[:] = await column(dsn, query, tasks[0], tasks[-1])
        return len(found) >= len(events)

    assert await within(PATIENCE, complete, 0.5), f"{table} has {len(found)} of {len(events)}"
    assert found == ids
    assert await column(dsn, "SELECT event_id FROM dead_letters WHERE event_id = ANY($1)", ids) == []


async def test_a_dead_letter_waits_for_the_database_of_its_consumer(
    past_taskwire: "AIOKafkaProducer[bytes, bytes]", gauges: "Gauges", stack: "RunningStack"
) -> None:
    async def asked_again() -> list[float]:
        counts = {"policy": "retry", "flow_direction": "inbound"}
        return [
            await gauges.read(f"daprd-{service}", "dapr_resiliency_activations_total", **counts) for service in TABLES
        ]

    before = await asked_again()
    await stack.stop_part("postgres")
    record = await past_taskwire.send_and_wait(TASKS_TOPIC, b"not JSON", key=b"poison")

    async def is_asked_again() -> bool:
        return all(now > then for now, then in zip(await asked_again(), before, strict=True))

    assert await within(PATIENCE, is_asked_again, 0.2)
    await stack.start_part("postgres")
    await stack.wait_all_ready()
    query = (
        "UPDATE dead_letters SET status = 'discarded', closed_at = now() "
        'WHERE partition = $1 AND "offset" = $2 RETURNING topic'
    )
    for service in TABLES:
        found = list[str]()

        async def is_stored(dsn: str = stack.databases[service], found: list[str] = found) -> bool:
            found[:] = await column(dsn, query, record.partition, record.offset)
            return bool(found)

        assert await within(PATIENCE, is_stored, 0.2), f"{service} has lost it"
        assert found == [TASKS_TOPIC], "stored once"
