"""A person in front of the whole real stack."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import uuid_utils
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.coming_back import PATIENCE, patient_client

from devstack.layout import HOST
from devstack.polling import within
from devstack.services import SERVICES
from task_events import parse_task_event
from task_events.topics import TASKS_PARTITIONS, TASKS_TOPIC

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

Json = dict[str, Any]
Records = list["ConsumerRecord[bytes, bytes]"]


@dataclass(frozen=True)
class Person:
    """Somebody nobody else in the test run is, with a token, in front of the three services."""

    name: str
    http: httpx2.AsyncClient
    urls: dict[str, str]

    async def ask(self, method: str, path: str, body: Json | None = None, service: str = "task-api") -> httpx2.Response:
        return await self.http.request(method, f"{self.urls[service]}/api/v1{path}", json=body)

    async def create_task(self, title: str = "Buy milk", **fields: object) -> Json:
        response = await self.ask("POST", "/tasks", {"title": title} | fields)
        assert response.status_code == 201, response.text
        task: Json = response.json()
        return task

    async def change(self, task: Json, **fields: object) -> Json:
        response = await self.ask("PATCH", f"/tasks/{task['id']}", fields)
        assert response.status_code == 200, response.text
        changed: Json = response.json()
        return changed

    async def audit_entries(self, task: Json) -> list[Json]:
        response = await self.ask("GET", f"/audit/entries?limit=500&task_id={task['id']}", service="audit-worker")
        assert response.status_code == 200, response.text
        entries: list[Json] = response.json()["items"]
        return entries

    async def notifications(self) -> list[Json]:
        """Read all of them, newest first."""
        items, cursor = list[Json](), ""
        while True:
            response = await self.ask("GET", f"/notifications?limit=200{cursor}", service="notifier")
            assert response.status_code == 200, response.text
            page: Json = response.json()
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"

    async def sees_versions_audited(self, task: Json, last: int) -> list[Json]:
        """Wait until the trail has every version of a task up to `last`, once each and in order."""
        entries: list[Json] = []

        async def complete() -> bool:
            entries[:] = await self.audit_entries(task)
            return len(entries) >= last

        assert await within(PATIENCE, complete, 0.1), f"only {entries} of {last} versions were audited"
        assert [entry["task_version"] for entry in entries] == list(range(1, last + 1))
        return entries

    async def is_notified(self, count: int) -> list[Json]:
        """Wait until there are so many notifications; newest first."""
        items: list[Json] = []

        async def complete() -> bool:
            items[:] = await self.notifications()
            return len(items) >= count

        assert await within(PATIENCE, complete, 0.1), f"only {items} of {count} notifications arrived"
        assert len(items) == count
        return items


@pytest.fixture
async def whole_again(stack: "RunningStack") -> AsyncIterator[None]:
    """Leave the stack to the next test as it was found, whatever this one froze or stopped."""
    yield
    await stack.make_whole()


@pytest.fixture
async def alice(stack: "RunningStack") -> AsyncIterator[Person]:
    """A person with an account of their own for this test."""
    name = f"alice-{uuid_utils.uuid7()}"
    async with patient_client({"Authorization": f"Bearer {stack.token(name)}"}) as http:
        yield Person(name, http, dict(stack.urls))


@pytest.fixture
def records_of(stack: "RunningStack") -> Callable[[int, int], Awaitable[Records]]:
    """Reads the topic from its beginning until it has given so many events of a task, each as it came first.

    What was published without an answer is published again, so a record may be there twice.
    """

    async def read(task_id: int, count: int) -> Records:
        consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=stack.kafka, auto_offset_reset="earliest", enable_auto_commit=False
        )
        found: dict[str, ConsumerRecord[bytes, bytes]] = {}

        async def has_come() -> bool:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                for record in batch:
                    if record.key == b"%d" % task_id:
                        found.setdefault(parse_task_event(record.value or b"").id, record)
            return len(found) >= count

        await consumer.start()
        try:
            consumer.assign([TopicPartition(TASKS_TOPIC, number) for number in range(TASKS_PARTITIONS)])
            assert await within(PATIENCE, has_come, 0), f"only {len(found)} of {count} events in the topic"
        finally:
            await consumer.stop()
        return list(found.values())

    return read


@dataclass(frozen=True)
class Gauges:
    """What the parts say about themselves on their metrics pages."""

    http: httpx2.AsyncClient
    pages: dict[str, str]

    async def read(self, part: str, metric: str, **labels: str) -> float:
        """Scrape a part (`audit-worker`, `daprd-audit-worker`) and add up the samples that have these labels."""
        text = (await self.http.get(self.pages[part])).text
        names = {metric, f"{metric}_total"}  # the parser adds this to a counter without it, as daprd's are
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in names and labels.items() <= sample.labels.items()
        )


@pytest.fixture
async def gauges(stack: "RunningStack") -> AsyncIterator[Gauges]:
    """The metrics of the three services and of their sidecars."""
    pages = {name: f"{url}/metrics" for name, url in stack.urls.items()}
    sidecars = {service.sidecar: f"http://{HOST}:{stack.ports.dapr_metrics(service.index)}/" for service in SERVICES}
    async with httpx2.AsyncClient(timeout=PATIENCE) as http:
        yield Gauges(http, pages | sidecars)


@pytest.fixture
async def past_taskwire(stack: "RunningStack") -> AsyncIterator["AIOKafkaProducer[bytes, bytes]"]:
    """Somebody who publishes to `tasks` without task-api."""
    producer: AIOKafkaProducer[bytes, bytes] = AIOKafkaProducer(bootstrap_servers=stack.kafka)
    await producer.start()
    yield producer
    await producer.stop()
