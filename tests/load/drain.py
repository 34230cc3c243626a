"""How fast a backlog flows to Kafka, against what Dapr bulk publish alone does; `make bench KIND=drain`.

Starts a whole stack of its own. Alternates, so that what else the machine does falls on both: events are published
through the same sidecar in bulk, without a database; then as many rows are put into the outbox in one transaction,
and task-api's relay takes them out. The consumers' sidecars are stopped, or they would take half of the machine.
Prints; asserts no speed, only that every event is in the topic once and in order: no timed test.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.publisher import DaprPublisher
from chassis.testing import make_task_event
from devstack.polling import within
from devstack.stack_under_test import StackUnderTest
from task_events import TaskEvent, TaskEventType
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

BULK = 500
"""Events a call where nothing but Dapr is measured; larger calls were not faster."""
LOOK_EVERY = 0.05
PATIENCE = 300.0
COLUMNS = (
    "id",
    "aggregate_type",
    "aggregate_id",
    "aggregate_version",
    "type",
    "payload",
    "traceparent",
    "occurred_at",
)


async def main(rounds: int, events: int, versions: int) -> None:
    """Measure both ways alternately and print the ratio."""
    rates: dict[str, list[float]] = {"Dapr alone": [], "relay": []}
    with StackUnderTest() as stack:
        for consumer in ("daprd-audit-worker", "daprd-notifier"):
            await stack.stop_part(consumer)
        outbox = await asyncpg.connect(stack.databases["task-api"], ssl=False)
        for number in range(rounds + 1):  # the first is for warming up
            batch = make_backlog(events if number else events // 10, versions, first_task=(number + 1) * 1_000_000)
            rates["Dapr alone"].append(await publish_alone(stack, batch))
            rates["relay"].append(await drain(stack, outbox, batch))
            line = "  ".join(f"{name} {measured[-1]:6.0f}/s" for name, measured in rates.items())
            sys.stdout.write(f"{f'round {number}' if number else 'warm-up'}  {line}\n")
            sys.stdout.flush()
            await check_topic(stack.kafka, batch)
            await print_size(outbox)
        await outbox.close()
    alone, relay = (statistics.median(measured[1:]) for measured in rates.values())
    sys.stdout.write(f"median: Dapr alone {alone:.0f}/s, relay {relay:.0f}/s, ratio {relay / alone:.2f}\n")


def make_backlog(events: int, versions: int, first_task: int) -> list[TaskEvent]:
    """Make the events of many tasks, each with some versions, mixed as users would mix them."""
    mixer = random.Random(first_task)  # noqa: S311 (not a secret)
    tasks = [first_task + number for number in range(max(1, events // versions)) for _ in range(versions)]
    mixer.shuffle(tasks)
    done: dict[int, int] = {}
    backlog = []
    for task in tasks:
        done[task] = done.get(task, 0) + 1
        kind = TaskEventType.COMPLETED if done[task] == versions and versions > 1 else None
        text = f"Bring {mixer.randrange(10**6)} of them. " * mixer.randrange(8)
        backlog.append(make_task_event(task, done[task], kind, occurred_at=datetime.now(UTC), description=text))
    return backlog


async def publish_alone(stack: StackUnderTest, backlog: Sequence[TaskEvent]) -> float:
    """Give the events per second of bulk publishing, one call after the other."""
    environment = psutil.Process(stack.pid("task-api")).environ()
    publisher = DaprPublisher(
        http_port=int(environment["DAPR_HTTP_PORT"]),
        grpc_port=int(environment["DAPR_GRPC_PORT"]),
        api_token=environment["DAPR_API_TOKEN"],
        timeout=60,
    )
    copies = [event.model_copy(update={"subject": f"9{event.subject}"}).encode() for event in backlog]
    await publisher.publish(copies[:1])
    began = time.perf_counter()
    for start in range(0, len(copies), BULK):
        await publisher.publish(copies[start : start + BULK])
    seconds = time.perf_counter() - began
    await publisher.close()
    return len(copies) / seconds


async def drain(
    stack: StackUnderTest, outbox: "asyncpg.Connection[asyncpg.Record]", backlog: Sequence[TaskEvent]
) -> float:
    """Give the events per second from the commit of a backlog to an empty outbox."""
    rows = [
        (
            UUID(event.id),
            "task",
            int(event.subject),
            event.data.task.version,
            event.type.value,
            json.dumps(event.data.model_dump(mode="json")),
            f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01",
            event.time,
        )
        for event in backlog
    ]

    async def is_empty() -> bool:
        return not await outbox.fetchval("SELECT EXISTS (SELECT FROM outbox)")

    async with outbox.transaction():
        await outbox.copy_records_to_table("outbox", records=rows, columns=COLUMNS)
    began = time.perf_counter()
    if not await within(PATIENCE, is_empty, LOOK_EVERY):
        raise TimeoutError("the outbox did not empty")
    return len(rows) / (time.perf_counter() - began)


async def check_topic(kafka: str, backlog: Sequence[TaskEvent]) -> None:
    """Look whether the topic has the versions of each task in order."""
    first, last = int(min(backlog, key=lambda event: int(event.subject)).subject), 0
    last = max(int(event.subject) for event in backlog)
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    seen: dict[int, list[int]] = {}
    try:
        partitions = [TopicPartition(TASKS_TOPIC, number) for number in range(TASKS_PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                for record in records:
                    task = int(record.key or b"0")
                    if first <= task <= last:
                        seen.setdefault(task, []).append(json.loads(record.value or b"")["data"]["task"]["version"])
    finally:
        await consumer.stop()
    found = sum(map(len, seen.values()))
    disordered = sum(versions != list(range(1, len(versions) + 1)) for versions in seen.values())
    if found != len(backlog) or disordered:
        raise RuntimeError(f"{found} of {len(backlog)} events in the topic, {disordered} tasks out of order")


async def print_size(outbox: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Print how large the table is, with its indexes, before and after a vacuum."""
    size = "SELECT pg_size_pretty(pg_total_relation_size('outbox'))"
    before = await outbox.fetchval(size)
    await outbox.execute("VACUUM outbox")
    sys.stdout.write(f"         outbox {before}, after VACUUM {await outbox.fetchval(size)}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--versions", type=int, default=5, help="changes of each task")
    given = parser.parse_args()
    asyncio.run(main(given.rounds, given.events, given.versions))
