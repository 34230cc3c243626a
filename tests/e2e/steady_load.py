"""People who change tasks without pause, note what they were answered, and check afterwards what became of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import httpx2
import uuid_utils
from aiokafka import AIOKafkaConsumer, TopicPartition

from devstack.polling import within
from task_events import parse_task_event
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

PATIENCE = 90.0
CONSUMERS = ("audit-worker", "notifier")


@dataclass
class SteadyLoad:
    """Writers, each with a task of their own, and what they saw.

    Attributes:
        stack: What they write to.
        owner: Whose tasks they are; nobody else's.
        versions: Newest acknowledged version per task.
        unanswered: Requests that were sent and got no answer, or another than they should.
        refused: How often a connection was refused, which is no request yet.
        asked_to_close: Answers that said so.
        letters_before: Dead letters that each consumer had already, by tests that want some.
    """

    stack: "RunningStack"
    owner: str = field(default_factory=lambda: f"owner-{uuid_utils.uuid7()}")
    versions: dict[int, int] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    refused: int = 0
    asked_to_close: int = 0
    letters_before: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, writers: int = 8) -> AsyncIterator[None]:
        """Write for the length of a block; half of the writers keep their connection, half take a new one each time."""
        for service in CONSUMERS:
            self.letters_before.setdefault(service, await self._dead_letters(service))
        over = asyncio.Event()
        tasks = [asyncio.create_task(self._write(over, keep_alive=number % 2 == 0)) for number in range(writers)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*tasks)

    @property
    def acknowledged(self) -> int:
        """How many changes were."""
        return sum(self.versions.values())

    async def goes_on(self, changes: int = 100) -> None:
        """Wait until so many more changes are acknowledged."""
        wanted = self.acknowledged + changes

        async def enough() -> bool:
            return self.acknowledged >= wanted

        assert await within(PATIENCE, enough, 0.02), f"no more changes: {self.unanswered}, {self.refused} refused"

    async def arrived_once(self) -> None:
        """Check that every acknowledged change, and no other, is in both consumers once and in order."""
        await self._in_both_consumers()
        assert await self._fetch("task-api", "SELECT id, version FROM tasks WHERE owner_id = $1") == self._expected()
        assert await self._fetch("task-api", _IN_OUTBOX) == [], "events stayed in the outbox"
        for service in CONSUMERS:
            more = await self._dead_letters(service) - self.letters_before[service]
            assert more == 0, f"{service} has {more} dead letters more"
        audited = await self._fetch("audit-worker", _AUDITED)
        for task, last in self.versions.items():
            assert [row[1] for row in audited if row[0] == task] == list(range(1, last + 1))
        notified = await self._fetch("notifier", "SELECT event_id FROM notifications WHERE owner_id = $1")
        assert len(set(notified)) == len(notified) == self.acknowledged

    async def doubled_on_topic(self) -> list[str]:
        """Give the ids of our events that are in Kafka more than once."""
        consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=self.stack.kafka, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(TASKS_TOPIC, number) for number in range(TASKS_PARTITIONS)]
            consumer.assign(partitions)
            left = sum((await consumer.end_offsets(partitions)).values())
            ids: Counter[str] = Counter()
            keys = {b"%d" % task for task in self.versions}
            while left:
                batches = await consumer.getmany(timeout_ms=60_000)
                assert batches, f"{left} records of the topic do not come"
                records = [record for batch in batches.values() for record in batch]
                left -= len(records)
                ids.update(parse_task_event(record.value or b"").id for record in records if record.key in keys)
        finally:
            await consumer.stop()
        assert len(ids) == self.acknowledged
        return [event for event, times in ids.items() if times > 1]

    async def _write(self, over: asyncio.Event, *, keep_alive: bool) -> None:
        headers = {"Authorization": f"Bearer {self.stack.token(self.owner)}"}
        limits = httpx2.Limits(max_keepalive_connections=1 if keep_alive else 0)
        url = f"{self.stack.urls['task-api']}/api/v1/tasks"
        task: int | None = None
        async with httpx2.AsyncClient(headers=headers, limits=limits, timeout=60) as http:
            while not over.is_set():
                try:
                    if task is None:
                        response = await http.post(url, json={"title": "x"})
                    else:
                        title = f"x {self.versions[task]}"
                        response = await http.patch(f"{url}/{task}", json={"title": title})
                except httpx2.ConnectError:
                    self.refused += 1
                    await asyncio.sleep(0.05)
                    continue
                except httpx2.TransportError as error:
                    self.unanswered.append(repr(error))
                    return
                if response.status_code not in {200, 201}:
                    self.unanswered.append(f"{response.status_code} {response.text}")
                    return
                self.asked_to_close += response.headers.get("connection") == "close"
                task = response.json()["id"]
                self.versions[response.json()["id"]] = response.json()["version"]
                await asyncio.sleep(0.02)

    async def _in_both_consumers(self) -> None:
        expected = self._expected()
        found: dict[str, list[tuple[object, ...]]] = {}

        async def complete() -> bool:
            for service, query in (("audit-worker", _NEWEST_AUDITED), ("notifier", _NEWEST_NOTIFIED)):
                found[service] = await self._fetch(service, query)
            return all(rows == expected for rows in found.values())

        assert await within(PATIENCE, complete, 0.2), f"acknowledged {expected}, but {found}"

    def _expected(self) -> list[tuple[object, ...]]:
        return sorted(self.versions.items())

    async def _fetch(self, service: str, query: str) -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(self.stack.databases[service], ssl=False)
        try:
            return sorted(tuple(row) for row in await connection.fetch(query, self.owner))
        finally:
            await connection.close()

    async def _dead_letters(self, service: str) -> int:
        headers = {"Authorization": f"Bearer {self.stack.token('olga', ['admin'])}"}
        async with httpx2.AsyncClient(headers=headers, timeout=15) as http:
            response = await http.get(f"{self.stack.urls[service]}/api/v1/dead-letters")
        assert response.status_code == 200, response.text
        return len(response.json()["items"])


_IN_OUTBOX = "SELECT id FROM outbox WHERE payload -> 'task' ->> 'owner_id' = $1"
_AUDITED = "SELECT task_id, task_version FROM audit_entries WHERE owner_id = $1"
_NEWEST_AUDITED = "SELECT task_id, count(*) FROM audit_entries WHERE owner_id = $1 GROUP BY 1"
_NEWEST_NOTIFIED = "SELECT task_id, count(*) FROM notifications WHERE owner_id = $1 GROUP BY 1"
