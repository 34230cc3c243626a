"""An outage of the database behind the consumers, longer than anything in Kafka or Dapr waits for a consumer."""

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer

from chassis.testing import make_task_event
from devstack.polling import within
from task_events.topics import AUDIT_DEAD_LETTER_TOPIC, NOTIFIER_DEAD_LETTER_TOPIC, TASKS_TOPIC

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from tests.e2e.conftest import Gauges

    from devstack.running_stack import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("whole_again")]
PATIENCE = 90.0

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


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_a_database_that_is_away_for_longer_than_a_minute_makes_no_dead_letter(
    past_taskwire: "AIOKafkaProducer[bytes, bytes]", gauges: "Gauges", stack: "RunningStack", how: str
) -> None:
    first = time.time_ns() // 1000
    events = [make_task_event(first + number) for number in range(EVENTS)]
    letters = await letters_in_kafka(stack.kafka)
    parts = {name: stack.pid(name) for name in stack.part_names if name != "postgres"}

    async def retried(service: str) -> float:
        return await gauges.read(service, "taskwire_event_deliveries_total", status="RETRY")

    retried_before = {service: await retried(service) for service in TABLES}
    if how == "frozen":
        stack.pause("postgres")
    else:
        await stack.stop_part("postgres")
    began = time.monotonic()
    for event in events:
        await past_taskwire.send_and_wait(TASKS_TOPIC, event.to_json(), key=event.subject.encode())
        await asyncio.sleep(OUTAGE / EVENTS)
    async with httpx2.AsyncClient(timeout=15) as http:
        for service in TABLES:
            assert await retried(service) > retried_before[service] + 5, "nothing was delivered meanwhile"
            assert await gauges.read(service, "taskwire_breaker_state", call="database") > 0
            assert (await http.get(f"{stack.urls[service]}/health/ready")).status_code == 503
    assert time.monotonic() - began >= OUTAGE
    if how == "frozen":
        stack.resume("postgres")
    else:
        await stack.start_part("postgres")
    await stack.wait_all_ready()
    for service, table in TABLES.items():
        dsn, found = stack.databases[service], list[str]()
        query = f"SELECT event_id FROM {table} WHERE task_id BETWEEN $1 AND $2 ORDER BY task_id"

        async def complete(dsn: str = dsn, query: str = query, found: list[str] = found) -> bool:
            found[:] = await column(dsn, query, first, first + EVENTS)
            return len(found) >= EVENTS

        assert await within(PATIENCE, complete, 0.5), f"{service} has {len(found)} of {EVENTS}"
        assert found == [event.id for event in events]
        assert await gauges.read(service, "taskwire_breaker_state", call="database") == 0
        assert await column(dsn, "SELECT event_id FROM dead_letters WHERE event_id = ANY($1)", found) == []
    assert await letters_in_kafka(stack.kafka) == letters
    assert parts == {name: stack.pid(name) for name in parts}, "a part was restarted"


async def test_a_dead_letter_waits_for_the_database_of_its_consumer(
    past_taskwire: "AIOKafkaProducer[bytes, bytes]", gauges: "Gauges", stack: "RunningStack"
) -> None:
    async def retried() -> list[float]:
        counts = {"policy": "retry", "flow_direction": "inbound"}
        return [
            await gauges.read(f"daprd-{service}", "dapr_resiliency_activations_total", **counts) for service in TABLES
        ]

    before = await retried()
    await stack.stop_part("postgres")
    record = await past_taskwire.send_and_wait(TASKS_TOPIC, b"not JSON", key=b"poison")

    async def is_asked_again() -> bool:
        return all(now > then for now, then in zip(await retried(), before, strict=True))

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
