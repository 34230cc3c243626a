"""What `docs/dapr-facts.md` says of Dapr 1.18 on Kafka, seen on the real daprd and in the raw records."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from dapr.proto import api_service_v1, api_v1
from tests.e2e.coming_back import PATIENCE

from chassis.testing import make_task_event
from devstack.layout import HOST
from devstack.polling import within
from devstack.services import SERVICES, Service
from task_events import CONTENT_TYPE, TaskEvent, parse_task_event
from task_events.topics import PUBSUB_NAME, TASKS_PARTITIONS, TASKS_TOPIC

if TYPE_CHECKING:
    from tests.e2e.conftest import Gauges, Person

    from devstack.running_stack import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("whole_again")]
SIDECAR = "daprd-task-api"
MORE_THAN_A_RECORD_HOLDS = "ö" * 600_000
ALL_LINES = 1_000_000

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"


@pytest.fixture
def token(stack: "RunningStack") -> str:
    """What task-api shows its sidecar."""
    return stack.environment(SIDECAR)["DAPR_API_TOKEN"]


@pytest.fixture
async def http_api(stack: "RunningStack", token: str) -> AsyncIterator[httpx2.AsyncClient]:
    base = f"http://{HOST}:{stack.ports.dapr_http(0)}"
    async with httpx2.AsyncClient(base_url=base, headers={"dapr-api-token": token}, timeout=PATIENCE) as http:
        yield http


class GrpcApi:
    """The sidecar's bulk publish without the SDK's own ideas."""

    def __init__(self, address: str, token: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = api_service_v1.DaprStub(self._channel)
        self._token = token

    async def bulk_publish(
        self, entries: Sequence[api_v1.BulkPublishRequestEntry], **metadata: str
    ) -> api_v1.BulkPublishResponse:
        request = api_v1.BulkPublishRequest(
            pubsub_name=PUBSUB_NAME, topic=TASKS_TOPIC, entries=entries, metadata=metadata
        )
        token = (("dapr-api-token", self._token),)
        answer: api_v1.BulkPublishResponse = await self._stub.BulkPublishEvent(request, metadata=token)
        return answer

    async def close(self) -> None:
        await self._channel.close()


@pytest.fixture
async def grpc_api(stack: "RunningStack", token: str) -> AsyncIterator[GrpcApi]:
    api = GrpcApi(f"{HOST}:{stack.ports.dapr_grpc(0)}", token)
    yield api
    await api.close()


def entry_of(event: TaskEvent) -> api_v1.BulkPublishRequestEntry:
    """As the relay sends it."""
    return api_v1.BulkPublishRequestEntry(
        entry_id=event.id, event=event.to_json(), content_type=CONTENT_TYPE, metadata={"partitionKey": event.subject}
    )


def some_tasks(count: int) -> list[int]:
    first = time.time_ns() // 1000
    return [first + number for number in range(count)]


class Topic:
    """The records of `tasks` from where it ended when the test began."""

    def __init__(self, consumer: "AIOKafkaConsumer[bytes, bytes]") -> None:
        self._consumer = consumer
        self.records: list[Record] = []

    async def read(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=200)
        self.records += [record for batch in batches.values() for record in batch]

    def of(self, *subjects: int) -> list[Record]:
        wanted = {str(subject) for subject in subjects}
        return [record for record in self.records if json.loads(record.value or b"{}").get("subject") in wanted]

    async def first_of(self, *subjects: int) -> list[Record]:
        """Wait until there is a record of each, and give the first of each: one may be there twice."""

        async def are_there() -> bool:
            await self.read()
            return all(self.of(subject) for subject in subjects)

        assert await within(PATIENCE, are_there, 0), f"only {len(self.of(*subjects))} records of {subjects}"
        return [self.of(subject)[0] for subject in subjects]


@pytest.fixture
async def topic(stack: "RunningStack") -> AsyncIterator[Topic]:
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka, enable_auto_commit=False, request_timeout_ms=120_000
    )
    await consumer.start()
    partitions = [TopicPartition(TASKS_TOPIC, number) for number in range(TASKS_PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for partition in partitions:
        await consumer.position(partition)
    yield Topic(consumer)
    await consumer.stop()


async def test_what_a_publisher_gave_up_lands_all_the_same_comes_again_and_is_audited_once(
    alice: "Person", gauges: "Gauges", stack: "RunningStack", topic: Topic
) -> None:
    task = await alice.create_task()
    await alice.sees_versions_audited(task, 1)
    (first,) = await topic.first_of(task["id"])

    async def unknown() -> float:
        return await gauges.read("task-api", "taskwire_outbox_published_total", result="unknown")

    before = await unknown()
    stack.pause("kafka")
    await alice.change(task, title="while Kafka is frozen")

    async def is_given_up() -> bool:
        return await unknown() > before

    assert await within(PATIENCE, is_given_up, 0.1)
    stack.resume("kafka")
    created = parse_task_event(first.value or b"").id
    times: Counter[str] = Counter()

    async def is_there_twice() -> bool:
        await topic.read()
        times.clear()
        times.update(parse_task_event(record.value or b"").id for record in topic.of(task["id"]))
        return any(count >= 2 for event, count in times.items() if event != created)

    assert await within(PATIENCE, is_there_twice, 0), times
    (changed,) = times.keys() - {created}  # the abandoned one and its repetition have one event id
    entries = await alice.sees_versions_audited(task, 2)
    assert entries[1]["event_id"] == changed
    # What comes behind the repetition in its partition is audited after it: it was not taken for another event.
    await alice.change(task, title="afterwards")
    await alice.sees_versions_audited(task, 3)
    await alice.is_notified(3)


async def test_one_refused_message_fails_the_whole_grpc_call_and_the_others_land(
    grpc_api: GrpcApi, topic: Topic
) -> None:
    one, large, other = some_tasks(3)
    events = [make_task_event(one), make_task_event(large, title=MORE_THAN_A_RECORD_HOLDS), make_task_event(other)]
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await grpc_api.bulk_publish([entry_of(event) for event in events])
    assert refusal.value.code() is grpc.StatusCode.INTERNAL
    records = await topic.first_of(one, other)
    assert {parse_task_event(record.value or b"").id for record in records} == {events[0].id, events[2].id}
    assert topic.of(large) == []


async def test_over_http_the_same_call_names_the_refused_message(http_api: httpx2.AsyncClient, topic: Topic) -> None:
    one, large, other = some_tasks(3)
    events = [make_task_event(one), make_task_event(large, title=MORE_THAN_A_RECORD_HOLDS), make_task_event(other)]
    entries = [
        {
            "entryId": event.id,
            "event": json.loads(event.to_json()),
            "contentType": CONTENT_TYPE,
            "metadata": {"partitionKey": event.subject},
        }
        for event in events
    ]
    answer = await http_api.post(f"/v1.0-alpha1/publish/bulk/{PUBSUB_NAME}/{TASKS_TOPIC}", json=entries)
    assert answer.status_code == 500
    assert [failed["entryId"] for failed in answer.json()["failedEntries"]] == [events[1].id], answer.text
    await topic.first_of(one, other)


async def test_key_and_envelope_of_an_event_arrive_as_the_relay_sends_them(grpc_api: GrpcApi, topic: Topic) -> None:
    (task,) = some_tasks(1)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    event = make_task_event(task).model_copy(update={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    await grpc_api.bulk_publish([entry_of(event)])
    (record,) = await topic.first_of(task)
    assert record.key == str(task).encode()
    assert parse_task_event(record.value or b"") == event
    envelope: dict[str, Any] = json.loads(record.value or b"")
    sent = json.loads(event.to_json())
    assert sent.items() <= envelope.items(), "nothing is changed, the microseconds of `time` included"
    assert envelope.keys() - sent.keys() == {"topic", "pubsubname", "tracestate"}
    assert dict(record.headers)["partitionKey"] == str(task).encode()


def attributes_of(event: TaskEvent) -> dict[str, str]:
    """The other form, which Taskwire does not use: the attributes of the envelope as metadata, beside the data."""
    named = {"id": event.id, "type": event.type.value, "source": event.source, "subject": event.subject}
    return {f"cloudevent.{name}": value for name, value in named.items()}


@pytest.mark.parametrize("api", ["grpc", "http"])
async def test_metadata_of_the_request_win_over_those_of_the_entry(
    grpc_api: GrpcApi, http_api: httpx2.AsyncClient, topic: Topic, api: str
) -> None:
    with_key, without = some_tasks(2)
    events = [make_task_event(with_key), make_task_event(without)]
    of_request = {"partitionKey": "of the request"}
    of_entries = [{"partitionKey": "of the entry"}, {}]
    entries = [
        api_v1.BulkPublishRequestEntry(
            entry_id=event.id,
            event=event.data.model_dump_json().encode(),
            content_type="application/json",
            metadata=attributes_of(event) | more,
        )
        for event, more in zip(events, of_entries, strict=True)
    ]
    if api == "grpc":
        await grpc_api.bulk_publish(entries, **of_request)
    else:
        body = [
            {
                "entryId": entry.entry_id,
                "event": json.loads(entry.event),
                "contentType": entry.content_type,
                "metadata": dict(entry.metadata),
            }
            for entry in entries
        ]
        path = f"/v1.0-alpha1/publish/bulk/{PUBSUB_NAME}/{TASKS_TOPIC}?metadata.partitionKey=of the request"
        assert (await http_api.post(path, json=body)).status_code == 204
    for event, record in zip(events, await topic.first_of(with_key, without), strict=True):
        envelope = json.loads(record.value or b"")
        assert (envelope["id"], envelope["type"], envelope["source"]) == (event.id, event.type.value, event.source)
        assert "." not in envelope["time"], "Dapr's own time, in whole seconds"
        assert record.key == b"of the request"


@pytest.mark.parametrize("service", SERVICES, ids=[one.app_id for one in SERVICES])
def test_no_sidecar_reloads_its_resources(stack: "RunningStack", service: Service) -> None:
    log = "\n".join(stack.log(service.sidecar, ALL_LINES))
    assert "dapr initialized" in log, "its start is not in the log"
    assert "Hot reloading enabled" not in log
