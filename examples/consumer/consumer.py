# /// script
# requires-python = ">=3.11"
# dependencies = ["aiokafka>=0.14", "cloudevents>=2.2"]
# ///
"""Reads Taskwire's task events straight from Kafka, without Dapr and without Taskwire's own code.

One line of JSON on standard output per event that counts; what was skipped and why goes to standard error. What every
consumer needs is in here: the offset is committed after the work, so an event may come again (known by its id); a
late event is told from a new one by the task's version; what cannot be read blocks nobody.
"""

import argparse
import asyncio
import json
import logging
import signal
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

CONTRACT_MAJOR: Final = "1"
_POLL: Final = 0.5
_PAUSE: Final = 2.0
_STOP_DEADLINE: Final = 10.0
_LARGEST: Final = 2**63 - 1
# What the SDK, the JSON parser and the look into the data make of bytes that are something else.
_UNREADABLE: Final = (BaseCloudEventException, ValueError, KeyError, TypeError, AttributeError, RecursionError)

Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"
Consumer: TypeAlias = "AIOKafkaConsumer[bytes | None, bytes | None]"
log: Final = logging.getLogger("consumer")


class PoisonError(Exception):
    """A record that is no task event this program can read, now or later."""


@dataclass(frozen=True)
class TaskEvent:
    """What this program uses of an event. A field it does not know is no reason to refuse one."""

    id: str
    type: str
    task_id: str
    version: int
    title: str
    actor: str

    @property
    def line(self) -> str:
        """The event as one line of JSON, whatever its title holds."""
        return json.dumps(asdict(self))


def parse(record: Record) -> TaskEvent:
    """Read a record.

    Raises:
        PoisonError: It is not a CloudEvent, or not one of this contract major.
    """
    headers = {name: value for name, value in record.headers if value is not None}
    message = KafkaMessage(headers=headers, key=record.key, value=record.value or b"")
    try:
        event = from_kafka(message, JSONFormat(), _as_sent)
        return _task_event(event)
    except _UNREADABLE as error:
        raise PoisonError(f"{type(error).__name__}: {str(error)[:200]}") from error


def _as_sent(attributes: dict[str, object], data: object) -> BaseCloudEvent:
    """Make an event as the SDK does, except that the SDK invents a missing id: a new one with every delivery."""
    for name in ("id", "specversion"):
        if name not in attributes:
            raise KeyError(name)
    return CloudEvent(attributes, data if isinstance(data, dict) else None)


def _task_event(event: BaseCloudEvent) -> TaskEvent:
    data = event.get_data()
    if not isinstance(data, dict):
        raise TypeError("data is not an object")
    contract = str(data["contract_version"])
    if contract.partition(".")[0] != CONTRACT_MAJOR:
        raise ValueError(f"contract {contract} is not {CONTRACT_MAJOR}.x")
    task = data["task"]
    version = task["version"]
    if not isinstance(version, int) or not 1 <= version <= _LARGEST:
        raise ValueError("data.task.version is no positive 64-bit integer")
    for text in (event.get_id(), str(task["id"])):
        text.encode()  # half a surrogate pair is valid JSON, but no database takes it
    return TaskEvent(
        id=event.get_id(),
        type=event.get_type(),
        task_id=str(task["id"]),
        version=version,
        title=str(task["title"]),
        actor=str(data["actor"]["id"]),
    )


class Inbox:
    """Remembers what was processed: ids against duplicates, the newest version per task against latecomers.

    A consumer with a database of its own keeps these two tables there and writes them in the transaction of its
    effect: then "processed" and "done" cannot differ. Here the effect is a line on a terminal, which no transaction
    can take back: after a crash between the two, that line comes twice.
    """

    def __init__(self, path: str) -> None:
        """Open or create the database file; `:memory:` forgets."""
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            """
            CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
            """
        )

    def process(self, event: TaskEvent) -> None:
        """Handle an event once, in one transaction with the memory of it."""
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            if database.execute("INSERT OR IGNORE INTO events VALUES (?)", (event.id,)).rowcount == 0:
                log.info("duplicate: %s", event.line)
            else:
                self._apply(event)
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise

    def _apply(self, event: TaskEvent) -> None:
        row = self._database.execute("SELECT version FROM tasks WHERE id = ?", (event.task_id,)).fetchone()
        last = int(row[0]) if row else 0
        if event.version <= last:
            # `data.task` is the whole task after the change, so the newer event we had before says all of it.
            log.warning("late: %s, version %d came before", event.line, last)
            return
        if event.version > last + 1:
            log.warning("gap: task=%s versions %d to %d are missing", event.task_id, last + 1, event.version - 1)
        self._database.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?)", (event.task_id, event.version))
        print(event.line, flush=True)  # noqa: T201  (the effect)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class Reader:
    """Reads the topic until it is stopped, whatever the broker does meanwhile."""

    def __init__(self, brokers: str, topic: str, group: str, inbox: Inbox) -> None:
        """Say where and what to read.

        Args:
            brokers: Bootstrap addresses, separated by commas.
            topic: The topic.
            group: Consumer group: several processes of one group share the partitions.
            inbox: Where events go.
        """
        self._brokers, self._topic, self._group, self._inbox = brokers, topic, group, inbox
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End after the records in hand."""
        self._stopped.set()

    async def run(self) -> None:
        """Read until stopped; a broker that is away is waited for."""
        while not self._stopped.is_set():
            consumer: Consumer = AIOKafkaConsumer(
                self._topic,
                bootstrap_servers=self._brokers,
                group_id=self._group,
                auto_offset_reset="earliest",  # the default, latest, misses what was there before us
                enable_auto_commit=False,
            )
            try:
                await consumer.start()
                log.info("reading %s at %s as %s", self._topic, self._brokers, self._group)
                await self._read(consumer)
            except KafkaError as error:
                log.warning("Kafka: %r; trying again in %g s", error, _PAUSE)
                await self._pause()
            finally:
                await self._leave(consumer)

    async def _read(self, consumer: Consumer) -> None:
        while not self._stopped.is_set():
            batches = await consumer.getmany(timeout_ms=int(_POLL * 1000), max_records=100)
            if batches:
                await self._commit(consumer, self._process(batches))

    def _process(self, batches: Mapping[TopicPartition, Sequence[Record]]) -> dict[TopicPartition, int]:
        """Process records in the order of their partition; gives the offsets to go on from."""
        for records in batches.values():
            for record in records:
                try:
                    self._inbox.process(parse(record))
                except PoisonError as error:
                    # A consumer that must account for everything writes it to a dead-letter topic of its own.
                    log.error("skipped: %s[%d]@%d: %s", record.topic, record.partition, record.offset, error)  # noqa: TRY400
        return {partition: records[-1].offset + 1 for partition, records in batches.items()}

    async def _commit(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit after the work. A failed commit loses nothing: the records come again, and the inbox knows them."""
        try:
            await consumer.commit(dict(offsets))
        except KafkaError as error:
            log.warning("the offsets were not committed: %r", error)

    async def _leave(self, consumer: Consumer) -> None:
        """Leave the group, so that others take over at once; not at any price when the broker is away."""
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_STOP_DEADLINE):
                await consumer.stop()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await self._stopped.wait()


async def main(arguments: Sequence[str] | None = None) -> None:
    """Read until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="Print Taskwire's task events")
    parser.add_argument("--brokers", default="127.0.0.1:8050", help="host:port,… (default: the broker of make up)")
    parser.add_argument("--topic", default="tasks")
    parser.add_argument("--group", default="example-consumer")
    parser.add_argument("--inbox", default=":memory:", metavar="FILE", help="SQLite file that survives a restart")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns of every attempt while a broker is away
    with closing(Inbox(options.inbox)) as inbox:
        reader = Reader(options.brokers, options.topic, options.group, inbox)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, reader.stop)
        await reader.run()
        log.info("stopped")


if __name__ == "__main__":
    asyncio.run(main())
