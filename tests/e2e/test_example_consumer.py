"""The consumer in examples/: reads the topic with nothing of ours, through all that may happen to a consumer."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tests.e2e.coming_back import PATIENCE

from devstack.polling import within
from task_events.examples import example_events, stored
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e

SCRIPT: Final = Path(__file__).parents[2] / "examples" / "consumer" / "consumer.py"
Json = dict[str, Any]


class Consumer:
    """The example as a process; what it said stays when it is started again."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        self._out, self._err = directory / "out", directory / "err"
        self.group = f"test-{uuid4()}"
        self._arguments = [*arguments, "--group", self.group, "--inbox", str(directory / "inbox.db")]
        self._process: Process | None = None

    @property
    def lines(self) -> list[Json]:
        whole, _, _ = self._out.read_text().rpartition("\n")  # the last one may be half written
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def complaints(self) -> str:
        return self._err.read_text()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """Run it; at the end it must stop when told to, unless the test killed it."""
        with self._out.open("ab") as out, self._err.open("ab") as err:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(SCRIPT), *self._arguments, stdout=out, stderr=err
            )
        try:
            yield process
            if process.returncode == -signal.SIGKILL:
                return
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0, self.complaints
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def of(self, task: Json) -> list[tuple[str, int]]:
        """Types and versions it has told of a task."""
        return [(line["type"], line["version"]) for line in self.lines if line["task_id"] == str(task["id"])]

    async def tells(self, task: Json, count: int) -> list[tuple[str, int]]:
        """Wait until it has told so many events of a task."""

        async def enough() -> bool:
            return len(self.of(task)) >= count

        await self.sees(enough)
        return self.of(task)

    async def sees(self, condition: Callable[[], Awaitable[bool]]) -> None:
        assert await within(PATIENCE, condition, 0.1), self.complaints[-3000:]


@pytest.fixture
async def consumer(stack: "RunningStack", tmp_path: Path) -> Consumer:
    """The example as a consumer that has read what there is: the thousands of events that other tests have left."""
    consumer = Consumer(tmp_path, ["--brokers", stack.kafka])
    reader: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka, group_id=consumer.group, enable_auto_commit=False
    )
    await reader.start()
    try:
        partitions = [TopicPartition(TASKS_TOPIC, number) for number in range(TASKS_PARTITIONS)]
        reader.assign(partitions)
        await reader.commit(await reader.end_offsets(partitions))
    finally:
        await reader.stop()
    return consumer


@asynccontextmanager
async def producing(kafka: str) -> AsyncIterator["AIOKafkaProducer[bytes | None, bytes | None]"]:
    producer: AIOKafkaProducer[bytes | None, bytes | None] = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@pytest.fixture
async def topic(stack: "RunningStack") -> str:
    """A topic of one partition where a test may write what it likes."""
    name = f"example-{uuid4()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()
    return name


async def test_it_tells_the_story_of_a_task_skips_poison_and_repeats_nothing_after_a_restart(
    alice: "Person", stack: "RunningStack", consumer: Consumer
) -> None:
    async with consumer.running():
        task = await alice.create_task("Buy\nmilk \U0001f95b")
        await consumer.tells(task, 1)
        async with producing(stack.kafka) as producer:
            await producer.send_and_wait(TASKS_TOPIC, b"this is no JSON", str(task["id"]).encode())
        await alice.ask("POST", f"/tasks/{task['id']}/complete")
        assert await consumer.tells(task, 2) == [("task.created", 1), ("task.completed", 2)]
    (created, _) = [line for line in consumer.lines if line["task_id"] == str(task["id"])]
    assert (created["title"], created["actor"]) == ("Buy\nmilk \U0001f95b", alice.name)
    assert "skipped: tasks[" in consumer.complaints
    assert "JSONDecodeError" in consumer.complaints
    assert "Traceback" not in consumer.complaints
    async with consumer.running():
        await alice.ask("POST", f"/tasks/{task['id']}/reopen")
        assert (await consumer.tells(task, 3))[2:] == [("task.reopened", 3)]
    assert len(consumer.lines) == len({line["id"] for line in consumer.lines})


@pytest.mark.usefixtures("whole_again")
async def test_it_waits_for_a_broker_that_is_away_and_goes_on_when_it_is_back(
    alice: "Person", stack: "RunningStack", consumer: Consumer
) -> None:
    task = await alice.create_task()
    async with consumer.running() as process:
        await consumer.tells(task, 1)
        await stack.stop_part("kafka")
        await alice.change(task, title="while Kafka is away")
        await asyncio.sleep(3)
        assert process.returncode is None
        await stack.start_part("kafka")
        assert await consumer.tells(task, 2) == [("task.created", 1), ("task.updated", 2)]
    assert len(consumer.of(task)) == 2


async def test_it_says_that_no_broker_is_there_and_stops_when_told_to(tmp_path: Path) -> None:
    consumer = Consumer(tmp_path, ["--brokers", "127.0.0.1:1"])
    async with consumer.running():

        async def has_complained() -> bool:
            return "trying again" in consumer.complaints

        await consumer.sees(has_complained)


def envelope(number: int, **changed: object) -> bytes:
    """An event of the examples' story as it lies in Kafka; `version=` and the like go into its task."""
    whole: Json = stored(example_events()[number - 1])
    whole["data"]["task"] |= changed
    return json.dumps(whole).encode()


def altered(**attributes: object) -> bytes:
    whole = json.loads(envelope(1)) | attributes
    return json.dumps({name: value for name, value in whole.items() if value is not ...}, default=str).encode()


POISON: Final[dict[str, bytes | None]] = {
    "a tombstone": None,
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "too deep": b"[" * 100_000,
    "no id, which the SDK would invent": altered(id=...),
    "no CloudEvents version": altered(specversion=...),
    "another CloudEvents version": altered(specversion="0.3"),
    "no type": altered(type=...),
    "no data": altered(data=...),
    "data that is text": altered(data="text"),
    "another contract": altered(data=json.loads(envelope(1))["data"] | {"contract_version": "2.0"}),
    "no actor": altered(
        data={name: value for name, value in json.loads(envelope(1))["data"].items() if name != "actor"}
    ),
    "version 0": envelope(1, version=0),
    "a version no database holds": envelope(1, version=2**63),
    "a version that is no number": envelope(1, version="1"),
    "an id no database holds": altered(id="\ud800"),
}


async def test_duplicates_latecomers_gaps_and_poison_disturb_nothing(
    stack: "RunningStack", topic: str, tmp_path: Path
) -> None:
    newer = json.loads(envelope(6)) | {"somethingnew": True, "type": "task.archived"}
    newer["data"] |= {"contract_version": "1.9", "later": 1}
    sent = [
        envelope(1),
        envelope(2),
        envelope(2),  # again
        *POISON.values(),
        envelope(4),  # 3 is missing
        envelope(3),  # and comes late
        envelope(1),  # long known
        envelope(5, title="\ud800 half a pair"),
        json.dumps(newer).encode(),
    ]
    async with producing(stack.kafka) as producer:
        for value in sent:
            await producer.send_and_wait(topic, value, b"7")
    consumer = Consumer(tmp_path, ["--brokers", stack.kafka, "--topic", topic])
    async with consumer.running():
        told = await consumer.tells({"id": 7}, 5)
    assert told == [
        ("task.created", 1),
        ("task.updated", 2),
        ("task.reopened", 4),
        ("task.deleted", 5),
        ("task.archived", 6),
    ]
    complaints = consumer.complaints
    # More of them where the broker took it for gone and gave it all once more; of the others there are none the more.
    assert complaints.count("duplicate: ") >= 2
    assert complaints.count("late: ") == 1
    assert complaints.count("gap: task=7 versions 3 to 3 are missing") == 1
    skipped = {int(line.partition("@")[2].partition(":")[0]) for line in complaints.splitlines() if "skipped: " in line}
    assert skipped == {3 + number for number in range(len(POISON))}
    assert "Traceback" not in complaints
    assert await committed(stack.kafka, consumer.group, topic) == len(sent)


async def committed(kafka: str, group: str, topic: str) -> int | None:
    """Where a group would go on in the one partition of a topic."""
    reader: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        bootstrap_servers=kafka, group_id=group, enable_auto_commit=False
    )
    await reader.start()
    try:
        partition = TopicPartition(topic, 0)
        reader.assign([partition])
        offset: int | None = await reader.committed(partition)
        return offset
    finally:
        await reader.stop()


async def test_it_knows_its_offsets_and_its_events_after_a_crash(
    stack: "RunningStack", topic: str, tmp_path: Path
) -> None:
    consumer = Consumer(tmp_path, ["--brokers", stack.kafka, "--topic", topic])
    async with producing(stack.kafka) as producer:
        await producer.send_and_wait(topic, envelope(1), b"7")
        async with consumer.running() as process:
            await consumer.tells({"id": 7}, 1)

            async def is_done() -> bool:
                return await committed(stack.kafka, consumer.group, topic) == 1

            await consumer.sees(is_done)  # killed just after its line, before its transaction, it would tell it again
            process.kill()
            await process.wait()
        for number in (1, 2):
            await producer.send_and_wait(topic, envelope(number), b"7")
    async with consumer.running():
        assert await consumer.tells({"id": 7}, 2) == [("task.created", 1), ("task.updated", 2)]


def test_it_uses_nothing_of_ours() -> None:
    imported = {line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith(("import ", "from "))}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"aiokafka", "cloudevents"}
