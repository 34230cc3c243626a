"""How many events a second the audit trail takes, in batches of one and of many; `python tests/load/consume.py`.

Starts a whole stack of its own for each round, alternating between the two sizes, so that what else the machine does
falls on both. In each round audit-worker's sidecar is stopped, events of many tasks are put into Kafka, and the
sidecar is started again: what is measured is the rate at which the backlog becomes entries, by the clock of the
database. Prints; asserts nothing: no timed test.
"""

import argparse
import asyncio
import os
import statistics
import sys
from datetime import UTC, datetime

import asyncpg
from aiokafka import AIOKafkaProducer

from chassis.testing import make_task_event
from devstack.polling import within
from devstack.stack_under_test import StackUnderTest
from task_events import CONTENT_TYPE
from task_events.topics import TASKS_TOPIC

SIDECAR = "daprd-audit-worker"
FIRST_TASK = 1_000_000
PATIENCE = 300.0


def measure(batch_size: int, events: int, tasks: int) -> float:
    """Give the entries per second of one round."""
    os.environ["TASKWIRE_DELIVERY_BATCH_SIZE"] = str(batch_size)
    with StackUnderTest() as stack:
        return asyncio.run(drain(stack, events, tasks))


async def drain(stack: StackUnderTest, events: int, tasks: int) -> float:
    """Make a backlog, let it flow, and look at when its entries were recorded."""
    await stack.stop_part(SIDECAR)
    await stack.stop_part("daprd-notifier")  # or it would take half of the machine
    await publish(stack.kafka, events, tasks)
    await stack.start_part(SIDECAR)
    audit = await asyncpg.connect(stack.databases["audit-worker"], ssl=False)

    async def complete() -> bool:
        return bool(await audit.fetchval("SELECT sequence FROM chain_head") >= events)

    try:
        if not await within(PATIENCE, complete, 0.5):
            raise TimeoutError("the backlog did not become entries")
        row = await audit.fetchrow(
            "SELECT count(*) AS entries, extract(epoch FROM max(recorded_at) - min(recorded_at)) AS seconds "
            "FROM audit_entries"
        )
        in_order = (
            await audit.fetchval("SELECT count(*) FROM inbox_events WHERE verdict <> 'fresh'") == 0
            and await audit.fetchval("SELECT count(*) FROM inbox_gaps") == 0
        )
    finally:
        await audit.close()
    if row is None or not in_order:
        raise RuntimeError("events were reordered or went missing")
    return int(row["entries"]) / float(row["seconds"])


async def publish(kafka: str, events: int, tasks: int) -> None:
    """Put events into Kafka as task-api's sidecar does: key is the task, its versions are in order."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5)
    await producer.start()
    try:
        for number in range(events):
            version, task = divmod(number, tasks)
            event = make_task_event(FIRST_TASK + task, version + 1, occurred_at=datetime.now(UTC))
            headers = [("content-type", CONTENT_TYPE.encode())]
            await producer.send(TASKS_TOPIC, event.to_json(), key=event.subject.encode(), headers=headers)
        await producer.flush()
    finally:
        await producer.stop()


def main(rounds: int, events: int, tasks: int, batch_size: int) -> None:
    """Measure both sizes alternately and print the ratio."""
    rates: dict[int, list[float]] = {1: [], batch_size: []}
    for number in range(rounds):
        for size, measured in rates.items():
            measured.append(measure(size, events, tasks))
            sys.stdout.write(f"round {number + 1}  batches of up to {size:<4} {measured[-1]:8.0f} entries/s\n")
            sys.stdout.flush()
    alone, bulk = (statistics.median(measured) for measured in rates.values())
    sys.stdout.write(f"median: of one {alone:.0f}/s, of many {bulk:.0f}/s, ratio {bulk / alone:.1f}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--batch-size", type=int, default=100)
    given = parser.parse_args()
    main(given.rounds, given.events, given.tasks, given.batch_size)
