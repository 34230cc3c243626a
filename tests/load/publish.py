"""How long a change takes from its acknowledgement to Kafka; `make bench KIND=publish`.

Starts a whole stack of its own, writes at a steady rate and reads the raw topic. A record's arrival is compared with
the answer to its request, and with the time in the event, which is just before the commit. Broker and readers share
the machine with all the rest, so figures include their waiting for a processor. Prints; asserts nothing: no timed test.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import datetime

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition

from devstack.stack_under_test import StackUnderTest
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

PATIENCE = 60.0
WARM_UP = 200
BUSY = 503


async def main(events: int, rate: float, rounds: int, *, consumers: bool) -> None:
    """Measure and print, round by round."""
    with StackUnderTest() as stack:
        if not consumers:
            for sidecar in ("daprd-audit-worker", "daprd-notifier"):
                await stack.stop_part(sidecar)
        headers = {"Authorization": f"Bearer {stack.token('bench')}"}
        async with httpx2.AsyncClient(headers=headers, timeout=10) as http:
            for number in range(rounds + 1):
                count = events if number else WARM_UP
                speed = rate if number else rate / 4
                await measure(stack.kafka, http, f"{stack.urls['task-api']}/api/v1/tasks", count, speed)


async def measure(kafka: str, http: httpx2.AsyncClient, url: str, events: int, rate: float) -> None:
    """Create tasks at a rate, and print how long each took."""
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        bootstrap_servers=kafka, enable_auto_commit=False, fetch_max_wait_ms=500
    )
    await consumer.start()
    arrived: dict[int, tuple[float, float]] = {}

    async def read() -> None:
        while len(arrived) < events:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                for record in records:
                    made = datetime.fromisoformat(json.loads(record.value or b"")["time"])
                    arrived[int(record.key or b"0")] = (time.time(), made.timestamp())

    acknowledged: dict[int, float] = {}
    requests: list[float] = []
    late: list[float] = []
    refused: list[int] = []

    async def write(number: int) -> None:
        sent = time.time()
        while (response := await http.post(url, json={"title": f"bench {number}"})).status_code == BUSY:
            refused.append(number)
            await asyncio.sleep(0.1)
        response.raise_for_status()
        acknowledged[response.json()["id"]] = time.time()
        requests.append(time.time() - sent)

    partitions = [TopicPartition(TASKS_TOPIC, number) for number in range(TASKS_PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for partition in partitions:
        await consumer.position(partition)
    reader = asyncio.create_task(read())
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(events):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            late.append(time.perf_counter() - began - number / rate)
            group.create_task(write(number))
    try:
        await asyncio.wait_for(reader, PATIENCE)
    finally:
        await consumer.stop()
    sys.stdout.write(f"{f'round at {rate:.0f}/s':26} {len(refused)} times told to come back\n")
    print_row("request", requests)
    print_row("acknowledged → Kafka", [max(0.0, arrived[task][0] - at) for task, at in acknowledged.items()])
    print_row("event's time → Kafka", [at - made for at, made in arrived.values()])
    print_row("(this program was late by)", late)


def print_row(name: str, seconds: list[float]) -> None:
    """Print a line of milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    figures = (("p50", cuts[49]), ("p95", cuts[94]), ("p99", cuts[98]), ("max", max(seconds)))
    line = "  ".join(f"{label} {value * 1e3:7.1f} ms" for label, value in figures)
    sys.stdout.write(f"{name:26} n={len(seconds):<5} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--rate", type=float, default=200.0, help="changes per second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--consumers", action="store_true", help="let audit-worker and notifier work beside it")
    given = parser.parse_args()
    asyncio.run(main(given.events, given.rate, given.rounds, consumers=given.consumers))
