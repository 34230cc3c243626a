"""Dead letters on the real stack: poison lands there once and blocks nobody. Outages are in `test_outages.py`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx2
import pytest
import uuid_utils
from aiokafka import AIOKafkaProducer
from tests.e2e.coming_back import PATIENCE, patient_client

from devstack.layout import REPOSITORY
from devstack.polling import within
from devstack.stack_under_test import StackUnderTest
from task_events.topics import TASKS_TOPIC

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e
CONSUMERS = ("audit-worker", "notifier")
_ENVELOPE = {"specversion": "1.0", "id": "@", "source": "/somebody/else", "type": "task.created", "subject": "1"}
_LARGEST = 1_048_588  # bytes of a batch that a topic takes by Kafka's default
_BATCH_OVERHEAD = 80  # of one record with the key `poison`

Json = dict[str, Any]
Headers = Sequence[tuple[str, bytes]]

POISON: dict[str, tuple[bytes | None, Headers, str]] = {
    "not JSON": (b"\xff\x00 not JSON", (), "not a task event: event: Invalid JSON"),
    "no object": (b'["@"]', (), "not a task event: event: Input should be an object"),
    "tombstone": (None, (), "not a task event: event: Input should be an object"),
    "wrong schema": (json.dumps(_ENVELOPE | {"data": {"@": 1}}).encode(), (), "not a task event: "),
    "schema from the future": (b"<future>", (), "contract version 2.0 is not 1.x"),
    "expired": (json.dumps(_ENVELOPE | {"expiration": "2020-01-01T00:00:00Z"}).encode(), (), "not a task event: "),
    "as large as the topic takes": (b"x" * (_LARGEST - _BATCH_OVERHEAD), (), "not a task event: event: Invalid JSON"),
    "header that HTTP forbids": (b"@ header", (("x y\n", b"a\nb"),), "not a task event: event: Invalid JSON"),
    "header that HTTP believes": (b"@ length", (("content-length", b"1"),), "not a task event: event: Invalid JSON"),
}
"""Value with `@` for something unique, headers, and how the reason begins."""


@dataclass(frozen=True)
class Operator:
    """Somebody with role admin, before the dead letters of both consumers."""

    http: httpx2.AsyncClient
    stack: "RunningStack"

    async def letters(self, service: str, query: str = "") -> list[Json]:
        items, cursor = list[Json](), ""
        while True:
            url = f"{self.stack.urls[service]}/api/v1/dead-letters?limit=200{query}{cursor}"
            response = await self.http.get(url)
            assert response.status_code == 200, response.text
            page: Json = response.json()
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"

    async def open_letters_of(self, service: str, task: Json) -> list[Json]:
        """Give those of one task: poison that other tests sent may still be on its way."""
        return [item for item in await self.letters(service, "&status=open") if item["subject"] == str(task["id"])]

    async def finds(self, service: str, partition: int, offset: int) -> Json:
        """Wait until the letter of a record is there, and give it; there is never more than one."""
        found: list[Json] = []

        async def is_there() -> bool:
            letters = await self.letters(service)
            found[:] = [item for item in letters if (item["partition"], item["offset"]) == (partition, offset)]
            return bool(found)

        assert await within(PATIENCE, is_there, 0.1), f"no dead letter of {partition}/{offset} at {service}"
        assert len(found) == 1
        return found[0]

    async def settle(self, service: str, letter: Json, action: str, body: Json | None = None) -> httpx2.Response:
        url = f"{self.stack.urls[service]}/api/v1/dead-letters/{letter['id']}/{action}"
        return await self.http.post(url, json=body)

    async def discards_all(self) -> None:
        for service in CONSUMERS:
            for letter in await self.letters(service, "&status=open"):
                await self.settle(service, letter, "discard", {"note": "made by a test"})


@pytest.fixture
async def operator(stack: "RunningStack") -> AsyncIterator[Operator]:
    async with patient_client({"Authorization": f"Bearer {stack.token('olga', ['admin'])}"}) as http:
        yield (operator := Operator(http, stack))
        await operator.discards_all()


@pytest.fixture
async def producer(stack: "RunningStack") -> AsyncIterator["AIOKafkaProducer[bytes, bytes]"]:
    """Somebody who publishes to `tasks` past Taskwire."""
    producer: AIOKafkaProducer[bytes, bytes] = AIOKafkaProducer(
        bootstrap_servers=stack.kafka, max_request_size=4_000_000
    )
    await producer.start()
    yield producer
    await producer.stop()


async def made(kind: str, alice: "Person", stack: "RunningStack") -> bytes | None:
    value = POISON[kind][0]
    if value != b"<future>":
        return None if value is None else value.replace(b"@", str(uuid_utils.uuid7()).encode())
    task = await alice.create_task()
    (entry,) = await alice.sees_versions_audited(task, 1)
    snapshot = task | {"owner_id": alice.name, "deleted_at": None}
    data = {"contract_version": "2.0", "task": snapshot, "changes": {}, "actor": {"id": alice.name}}
    data |= {"occurred_at": entry["occurred_at"], "corr_id": "c"}
    envelope = _ENVELOPE | {"id": str(uuid_utils.uuid7()), "subject": str(task["id"]), "time": entry["occurred_at"]}
    return json.dumps(envelope | {"data": data}).encode()


@pytest.mark.parametrize("kind", POISON)
async def test_poison_lands_once_with_its_reason_and_blocks_nobody(
    alice: "Person",
    operator: Operator,
    producer: "AIOKafkaProducer[bytes, bytes]",
    stack: "RunningStack",
    kind: str,
) -> None:
    value, headers, reason = await made(kind, alice, stack), POISON[kind][1], POISON[kind][2]
    # Twelve tasks are in all six partitions, so some of them come right behind the poison.
    tasks = [await alice.create_task(f"before {number}") for number in range(12)]
    record = await producer.send_and_wait(TASKS_TOPIC, value, key=b"poison", headers=list(headers))
    for task in tasks:
        await alice.change(task, title="behind the poison")
    for service in CONSUMERS:
        letter = await operator.finds(service, record.partition, record.offset)
        assert letter["reason"].startswith(reason), letter
        assert (letter["status"], letter["topic"], letter["attempts"]) == ("open", TASKS_TOPIC, 1)
        assert letter["size_bytes"] == len(value if value is not None else b"null")
    for task in tasks:
        await alice.sees_versions_audited(task, 2)
    await alice.is_notified(2 * len(tasks) + (kind == "schema from the future"))
    for service in CONSUMERS:
        letter = await operator.finds(service, record.partition, record.offset)
        assert (await operator.settle(service, letter, "redrive")).json()["code"] == "redrive_failed"
        discarded = await operator.settle(service, letter, "discard", {"note": "poison"})
        assert (discarded.json()["status"], discarded.json()["attempts"]) == ("discarded", 2)


async def test_a_record_with_a_binary_key_blocks_neither_events_nor_dead_letters(
    operator: Operator, producer: "AIOKafkaProducer[bytes, bytes]"
) -> None:
    first = await producer.send_and_wait(TASKS_TOPIC, b"poison", key=b"\xff\n\x01")
    second = await producer.send_and_wait(TASKS_TOPIC, b"poison", partition=first.partition, key=b"\n")
    for record in (first, second):
        for service in CONSUMERS:
            await operator.finds(service, record.partition, record.offset)


async def test_both_doors_lead_to_one_letter(
    operator: Operator, producer: "AIOKafkaProducer[bytes, bytes]", stack: "RunningStack"
) -> None:
    """What the consumer stored may also be put into its dead-letter topic, by a sidecar that gave up on it."""
    poison, other = b"poison", b"what only the sidecar has seen"
    record = await producer.send_and_wait(TASKS_TOPIC, poison, key=b"poison")
    for service in CONSUMERS:
        letter = await operator.finds(service, record.partition, record.offset)
        for value, offset in ((poison, record.offset), (other, 2**40)):
            origin = {"__topic": TASKS_TOPIC, "__partition": str(record.partition), "__offset": str(offset)}
            headers = [(name, value.encode()) for name, value in origin.items()]
            await producer.send_and_wait(f"{service}.dead-letters", value, key=b"poison", headers=headers)
        await operator.finds(service, record.partition, 2**40)
        assert await operator.finds(service, record.partition, record.offset) == letter


async def test_what_failed_by_a_defect_is_redriven_to_one_entry_after_the_repair(
    alice: "Person", operator: Operator, stack: "RunningStack"
) -> None:
    await operator.discards_all()
    database = await asyncpg.connect(stack.databases["audit-worker"])
    try:
        await database.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a defect'; END $$;"
            "CREATE TRIGGER defect BEFORE INSERT ON audit_entries FOR EACH ROW "
            "WHEN (NEW.task->>'title' = 'cursed') EXECUTE FUNCTION fail()"
        )
        task = await alice.create_task("cursed")

        async def has_failed() -> bool:
            noted = "SELECT count(*) FROM event_failures WHERE reason = 'RaiseError: a defect'"
            return bool(await database.fetchval(noted))

        assert await within(PATIENCE, has_failed, 0.05)
        await stack.kill("audit-worker")  # which must not make it begin to count anew

        async def has_letter() -> bool:
            return bool(await operator.open_letters_of("audit-worker", task))

        await stack.wait_ready("audit-worker")
        assert await within(PATIENCE, has_letter, 0.2)
        (letter,) = await operator.open_letters_of("audit-worker", task)
        assert letter["reason"] == "RaiseError: a defect"
        assert letter["attempts"] == 3
        first, last = (datetime.fromisoformat(letter[f"{which}_failed_at"]) for which in ("first", "last"))
        assert last - first > timedelta(seconds=2), "the sidecar's pauses of 3 s are between them"
        assert await operator.open_letters_of("notifier", task) == []
        assert await alice.audit_entries(task) == []
        assert (await operator.settle("audit-worker", letter, "redrive")).status_code == 409
        assert dlq(stack, "SERVICE=audit-worker", "REDRIVE=all").returncode != 0
    finally:
        await database.execute("DROP FUNCTION fail CASCADE")
        await database.close()
    listed = dlq(stack, "SERVICE=audit-worker").stdout
    assert re.search(r"^audit-worker: \d+ open", listed, re.MULTILINE)
    assert f"task.created of task {task['id']}, tried 5 x" in listed
    shown = json.loads(dlq(stack, "SERVICE=audit-worker", f"ID={letter['id']}").stdout)
    assert shown["event"]["data"]["task"]["title"] == "cursed"
    redriven = dlq(stack, "SERVICE=audit-worker", f"REDRIVE={letter['id']}")
    assert (redriven.returncode, redriven.stdout) == (0, f"{letter['id']} redriven: the inbox says fresh\n")
    await alice.change(task, title="blessed")
    await alice.sees_versions_audited(task, 2)
    assert f"of task {task['id']}" not in dlq(stack, "SERVICE=audit-worker").stdout


async def test_a_letter_is_discarded_by_command_and_only_with_a_note(
    operator: Operator, producer: "AIOKafkaProducer[bytes, bytes]", stack: "RunningStack"
) -> None:
    record = await producer.send_and_wait(TASKS_TOPIC, b"poison", key=b"poison")
    letter = await operator.finds("notifier", record.partition, record.offset)
    assert "the note is missing" in dlq(stack, "SERVICE=notifier", f"DISCARD={letter['id']}").stderr
    done = dlq(stack, "SERVICE=notifier", f"DISCARD={letter['id']}", "NOTE=made by a test")
    assert (done.returncode, done.stdout) == (0, f"{letter['id']} discarded\n")
    assert (await operator.finds("notifier", record.partition, record.offset))["note"] == "made by a test"


def dlq(stack: "RunningStack", *settings: str) -> "subprocess.CompletedProcess[str]":
    """Type `make dlq …` without make."""
    given = dict(setting.split("=", 1) for setting in settings)
    if isinstance(stack, StackUnderTest):
        module = "devstack"
        place = {"TASKWIRE_HOME": str(stack.layout.home), "TASKWIRE_PORT_BASE": str(stack.layout.ports.base)}
    else:
        module = "containers"
        place = {"TOKEN_SECRET": stack.signing_secret(), "TASKWIRE_PORT_PREFIX": str(stack.ports.base // 100)}
    return subprocess.run(
        [sys.executable, "-m", module, "dlq"],
        cwd=REPOSITORY,
        env={**os.environ, "TASKWIRE_ENV_FILE": os.devnull, **place, **given},
        capture_output=True,
        text=True,
        timeout=300,
    )
