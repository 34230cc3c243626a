"""People who change tasks without pause, note what they were answered, and check afterwards what became of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import httpx2
import uuid_utils
from aiokafka import AIOKafkaConsumer, TopicPartition
from tests.e2e.coming_back import PATIENCE

from devstack.polling import within
from task_events import parse_task_event
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

CONSUMERS = ("audit-worker", "notifier")


Arrived = dict[str, list[tuple[object, ...]]]


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
        turned_away: Answers that the database gave none in time, and the seconds that each took.
    """

    stack: "RunningStack"
    owner: str = field(default_factory=lambda: f"owner-{uuid_utils.uuid7()}")
    versions: dict[int, int] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    refused: int = 0
    asked_to_close: int = 0
    turned_away: list[tuple[float, str]] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, writers: int = 8) -> AsyncIterator[None]:
        """Write for the length of a block; half of the writers keep their connection, half take a new one each time."""
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

    @property
    def lost(self) -> list[str]:
        """Requests that had no answer, or another than they should.

        A database that is slow is none of it: that takes time, at least once. One that was closed too soon says so
        at once.
        """
        at_once = all(seconds < _A_WAIT for seconds, _ in self.turned_away)
        return [*self.unanswered, *(text for _, text in self.turned_away if at_once)]

    async def goes_on(self, changes: int = 100) -> None:
        """Wait until so many more changes are acknowledged, for as long as there are any more."""
        wanted = self.acknowledged + changes
        while (seen := self.acknowledged) < wanted:

            async def more(seen: int = seen) -> bool:
                return self.acknowledged > seen

            assert await within(PATIENCE, more, 0.02), f"no more changes: {self.lost}, {self.refused} refused"

    async def arrived_once(self) -> None:
        """Check that every acknowledged change, and no other, is in both consumers once and in order."""
        await self._in_both_consumers()
        assert await self._fetch("task-api", "SELECT id, version FROM tasks WHERE owner_id = $1") == self._expected()
        assert await within(PATIENCE, self._outbox_is_empty, 0.05), "events stayed in the outbox"
        for service in CONSUMERS:
            assert await self._dead_letters(service) == [], f"{service} has dead letters"
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
        async with httpx2.AsyncClient(headers=headers, limits=limits, timeout=PATIENCE) as http:
            while not over.is_set():
                asked = time.monotonic()
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
                if response.status_code == _UNAVAILABLE and response.json()["code"] == "database_unavailable":
                    self.turned_away.append((time.monotonic() - asked, response.text))
                    await asyncio.sleep(0.1)
                    continue
                if response.status_code not in {200, 201}:
                    self.unanswered.append(f"{response.status_code} {response.text}")
                    return
                self.asked_to_close += response.headers.get("connection") == "close"
                task = response.json()["id"]
                self.versions[response.json()["id"]] = response.json()["version"]
                await asyncio.sleep(0.02)

    async def _in_both_consumers(self) -> None:
        """Wait until they have it all, for as long as more arrives."""
        expected, found = self._expected(), await self._arrived()
        while any(rows != expected for rows in found.values()):

            async def more(found: Arrived = found) -> bool:
                return await self._arrived() != found

            assert await within(PATIENCE, more, 0.2), f"acknowledged {expected}, but {found}"
            found = await self._arrived()

    async def _arrived(self) -> Arrived:
        queries = (("audit-worker", _NEWEST_AUDITED), ("notifier", _NEWEST_NOTIFIED))
        return {service: await self._fetch(service, query) for service, query in queries}

    def _expected(self) -> list[tuple[object, ...]]:
        return sorted(self.versions.items())

    async def _fetch(self, service: str, query: str) -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(self.stack.databases[service], ssl=False)
        try:
            return sorted(tuple(row) for row in await connection.fetch(query, self.owner))
        finally:
            await connection.close()

    async def _outbox_is_empty(self) -> bool:
        # The relay has its answer a moment after the consumers have the events.
        return await self._fetch("task-api", _IN_OUTBOX) == []

    async def _dead_letters(self, service: str) -> list[str]:
        """Give the reasons of those of our tasks."""
        query = "SELECT reason FROM dead_letters WHERE subject = ANY($1)"
        connection = await asyncpg.connect(self.stack.databases[service], ssl=False)
        try:
            return [row[0] for row in await connection.fetch(query, [str(task) for task in self.versions])]
        finally:
            await connection.close()


_TRIES = 3


async def in_some_tries(attempt: Callable[[], Awaitable[list[str]]]) -> None:
    """Check that an attempt ends without a complaint, the third at the latest.

    For what goes by clocks on both sides of a connection: while the machine stands still they run on together, and a
    request is sent on a connection that is just being closed, or an answer comes late. A defect shows each time.
    """
    complaints = []
    for _ in range(_TRIES):
        complaints.append(await attempt())
        if not complaints[-1]:
            return
    raise AssertionError(f"each time something: {complaints}")


_UNAVAILABLE = 503
_A_WAIT = 2.0
"""Seconds: the least that a service waits for its database before it says so."""
_IN_OUTBOX = "SELECT id FROM outbox WHERE payload -> 'task' ->> 'owner_id' = $1"
_AUDITED = "SELECT task_id, task_version FROM audit_entries WHERE owner_id = $1"
_NEWEST_AUDITED = "SELECT task_id, count(*) FROM audit_entries WHERE owner_id = $1 GROUP BY 1"
_NEWEST_NOTIFIED = "SELECT task_id, count(*) FROM notifications WHERE owner_id = $1 GROUP BY 1"
