"""The `tasks` topic seen from outside Dapr: read it whole, and put records into it that nobody expects."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.testing import make_task_event
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

PARTITIONS: Final = [TopicPartition(TASKS_TOPIC, number) for number in range(TASKS_PARTITIONS)]
POISONED_TASKS: Final = 9_000_000_000_000_000_000
"""Task ids from here on are of events that the databases of the consumers refuse."""

# Marks for our own eyes: known even of a record whose sending was not answered.
_REPLAYED: Final = "chaos-replayed"
_POISON: Final = "chaos-poison"
_TIMEOUT: Final = 60.0

Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"
Place: TypeAlias = tuple[int, int]
"""Partition and offset: what a record is called."""


@dataclass(frozen=True)
class PublishedEvent:
    """A record of the topic that is a task event.

    Attributes:
        place: Partition and offset.
        task_id: By its subject.
        replayed: Whether the suite put it there a second time, and not the relay.
    """

    place: Place
    event_id: str
    task_id: int
    version: int
    title: str
    replayed: bool


@dataclass(frozen=True)
class Content:
    """What is in the topic.

    Attributes:
        events: The task events, in the order of each partition.
        poison: Where the records are that no consumer can process.
    """

    events: list[PublishedEvent]
    poison: list[Place]


@dataclass
class Topic:
    """Somebody with access to the broker and without manners.

    Attributes:
        bootstrap: Address of the broker.
        chance: Decides what is replayed, and in which order.
    """

    bootstrap: str
    chance: random.Random

    async def content(self) -> Content:
        """Read everything."""
        records = await self._records()
        return Content(
            events=[_read(record) for record in records if not _has(record, _POISON)],
            poison=[(record.partition, record.offset) for record in records if _has(record, _POISON)],
        )

    async def replay(self, count: int, strays: int) -> int:
        """Publish records that are there already once more, shuffled: duplicates, out of order.

        Args:
            count: How many records, taken at random.
            strays: So many tasks' records go to other partitions than their own, as a publisher with another
                partitioner would have it: there a copy may overtake the original.
        """
        records = [record for record in await self._records() if not (_has(record, _REPLAYED) or _has(record, _POISON))]
        chosen = self.chance.sample(records, min(count, len(records)))
        keys = sorted({record.key or b"" for record in chosen})
        astray = set(self.chance.sample(keys, min(strays, len(keys))))
        async with self._producer() as producer:
            for record in chosen:
                partition = (record.partition + (record.key in astray)) % TASKS_PARTITIONS
                headers = [*record.headers, (_REPLAYED, b"1")]
                await producer.send(TASKS_TOPIC, record.value, key=record.key, partition=partition, headers=headers)
            await producer.flush()
        return len(chosen)

    async def poison(self) -> int:
        """Publish a record of each kind that must end in the dead letters and hold up nobody."""
        cursed = make_task_event(POISONED_TASKS + self.chance.randrange(10**9))
        values = [
            b"\xff\x00 not JSON",
            b'{"specversion": "1.0", "id": "1", "source": "/else", "type": "task.created", "data": {"wrong": 1}}',
            _from_the_future(),
            cursed.to_json(),
        ]
        async with self._producer() as producer:
            for value in values:
                key = str(self.chance.randrange(100)).encode()
                await producer.send_and_wait(TASKS_TOPIC, value, key=key, headers=[(_POISON, b"1")])
        return len(values)

    async def rewind(self, group: str, count: int) -> int:
        """Set the offsets of an empty consumer group back by so many records in each partition."""
        consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False
        )
        async with asyncio.timeout(_TIMEOUT):
            try:
                await consumer.start()
                consumer.assign(PARTITIONS)
                committed = {partition: await consumer.committed(partition) for partition in PARTITIONS}
                rewound = {p: max(0, offset - count) for p, offset in committed.items() if offset is not None}
                await consumer.commit(rewound)
            finally:
                await consumer.stop()
        return sum((committed[partition] or 0) - offset for partition, offset in rewound.items())

    async def take_records_up_to(self, size: int | None) -> None:
        """Have the topic refuse larger batches than this many bytes; None for Kafka's default."""
        changed = {} if size is None else {"max.message.bytes": str(size)}
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        async with asyncio.timeout(_TIMEOUT):
            try:
                await admin.start()
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TASKS_TOPIC, changed)])
            finally:
                await admin.close()

    async def lag(self, group: str) -> int:
        """Count the records that a consumer group has not answered for, its dead letters included."""
        partitions = [*PARTITIONS, TopicPartition(f"{group}.dead-letters", 0)]
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        async with asyncio.timeout(_TIMEOUT), self._reader() as reader:
            try:
                await admin.start()
                committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
            finally:
                await admin.close()
            ends = await reader.end_offsets(partitions)
        return sum(end - max(0, committed[partition].offset) for partition, end in ends.items())

    async def _records(self) -> list[Record]:
        found: list[Record] = []
        async with asyncio.timeout(_TIMEOUT * 3), self._reader() as reader:
            ends = await reader.end_offsets(PARTITIONS)
            while any([await reader.position(partition) < end for partition, end in ends.items()]):
                for batch in (await reader.getmany(timeout_ms=1_000)).values():
                    found += batch
        return found

    @asynccontextmanager
    async def _reader(self) -> "AsyncIterator[AIOKafkaConsumer[bytes | None, bytes | None]]":
        reader: AIOKafkaConsumer[bytes | None, bytes | None] = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await reader.start()
            reader.assign(PARTITIONS)
            yield reader
        finally:
            await reader.stop()

    @asynccontextmanager
    async def _producer(self) -> "AsyncIterator[AIOKafkaProducer[bytes, bytes]]":
        producer: AIOKafkaProducer[bytes, bytes] = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        async with asyncio.timeout(_TIMEOUT):
            try:
                await producer.start()
                yield producer
            finally:
                await producer.stop()


def _has(record: Record, mark: str) -> bool:
    return any(name == mark for name, _ in record.headers)


def _read(record: Record) -> PublishedEvent:
    envelope = json.loads(record.value or b"")
    task = envelope["data"]["task"]
    return PublishedEvent(
        place=(record.partition, record.offset),
        event_id=envelope["id"],
        task_id=int(envelope["subject"]),
        version=task["version"],
        title=task["title"],
        replayed=_has(record, _REPLAYED),
    )


def _from_the_future() -> bytes:
    envelope = json.loads(make_task_event(POISONED_TASKS).to_json())
    envelope["data"]["contract_version"] = "2.0"
    return json.dumps(envelope).encode()
