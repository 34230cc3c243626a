"""Calls between processes that fail, on the real stack: the breakers around them, seen on the metrics pages.

Calls to PostgreSQL and to the identity provider have their tests in `libs/chassis/tests`.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx2
import pytest

from chassis.testing import make_task_event
from devstack.layout import HOST
from devstack.polling import within
from task_events import CONTENT_TYPE, TaskEvent

if TYPE_CHECKING:
    from tests.e2e.conftest import Gauges, Person

    from devstack.running_stack import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("whole_again")]
PATIENCE = 90.0
PUBLISH_TIMEOUT, DELIVERY_TIMEOUT, DELIVERY_RETRY = 10.0, 4.0, 3.0  # components/resiliency.yaml
SIDECAR = "daprd-task-api"


@pytest.fixture
async def sidecar(stack: "RunningStack") -> AsyncIterator[httpx2.AsyncClient]:
    """The API of task-api's daprd, with the right to use it."""
    token = stack.environment(SIDECAR)["DAPR_API_TOKEN"]
    base = f"http://{HOST}:{stack.ports.dapr_http(0)}/v1.0"
    async with httpx2.AsyncClient(base_url=base, headers={"dapr-api-token": token}, timeout=60) as http:
        yield http


async def publish(sidecar: httpx2.AsyncClient, event: TaskEvent) -> httpx2.Response:
    path = f"/publish/pubsub/tasks?metadata.partitionKey={event.subject}"
    return await sidecar.post(path, content=event.to_json(), headers={"Content-Type": CONTENT_TYPE})


@pytest.mark.parametrize(("how", "outcome"), [("stopped", "error"), ("frozen", "timeout")])
async def test_without_its_sidecar_the_relay_stops_asking_and_begins_again(
    alice: "Person", gauges: "Gauges", stack: "RunningStack", how: str, outcome: str
) -> None:
    async def state() -> float:
        return await gauges.read("task-api", "taskwire_breaker_state", call="dapr-publish")

    async def calls() -> float:
        return await gauges.read("task-api", "taskwire_outbound_calls_total", call="dapr-publish", outcome=outcome)

    task = await alice.create_task()
    await alice.sees_versions_audited(task, 1)
    assert await state() == 0
    before = await calls()
    if how == "frozen":
        stack.pause(SIDECAR)
    else:
        await stack.stop_part(SIDECAR)
    await alice.change(task, title="while the breaker is closed")

    async def is_open() -> bool:
        return await state() == 2

    async def is_half_open() -> bool:
        return await state() == 1

    async def is_in_the_backlog() -> bool:
        return await gauges.read("task-api", "taskwire_outbox_backlog_events") >= 1

    assert await within(PATIENCE, is_open, 0.02)
    assert await calls() >= before + 3, "three failures in a row open it"
    # What a caller sees of it: nothing. The event waits.
    await alice.change(task, title="while the breaker is open")
    assert await within(PATIENCE, is_in_the_backlog, 0.02)
    assert await within(PATIENCE, is_half_open, 0.02)
    assert await gauges.read("task-api", "taskwire_outbound_calls_total", call="dapr-publish", outcome="refused") == 0
    if how == "frozen":
        stack.resume(SIDECAR)
    else:
        await stack.start_part(SIDECAR)
    await alice.sees_versions_audited(task, 3)
    assert await state() == 0
    await alice.is_notified(3)


async def test_with_a_frozen_kafka_daprd_gives_up_a_publish_refuses_more_and_begins_again(
    gauges: "Gauges", stack: "RunningStack", sidecar: httpx2.AsyncClient
) -> None:
    outbound = {"flow_direction": "outbound", "target": "Pubsub_pubsub"}

    async def breaker(state: str) -> float:
        return await gauges.read(SIDECAR, "dapr_resiliency_cb_state", status=state, **outbound)

    async def timeouts() -> float:
        return await gauges.read(SIDECAR, "dapr_resiliency_activations_total", policy="timeout", **outbound)

    first = time.time_ns() // 1000
    events = [make_task_event(first + number) for number in range(6)]
    assert (await publish(sidecar, make_task_event(first - 1))).status_code == 204
    assert await breaker("closed") == 1
    before = await timeouts()
    stack.pause("kafka")
    began = time.monotonic()
    answers = await asyncio.gather(*(publish(sidecar, event) for event in events))
    assert time.monotonic() - began >= PUBLISH_TIMEOUT - 1
    assert {answer.status_code for answer in answers} == {500}
    assert all("deadline exceeded" in answer.text for answer in answers), answers[0].text
    assert await timeouts() == before + 6
    refusal = await publish(sidecar, events[0])
    assert refusal.status_code == 500
    assert "circuit breaker is open" in refusal.text
    assert await timeouts() == before + 6, "nothing was tried"
    assert await breaker("open") == 1
    stack.resume("kafka")

    async def is_published() -> bool:
        return (await publish(sidecar, events[0])).status_code == 204

    assert await within(PATIENCE, is_published, 0.2)
    assert (await publish(sidecar, events[0])).status_code == 204
    assert await breaker("closed") == 1


async def test_a_consumer_that_says_nothing_is_asked_again_and_no_breaker_is_around_it(
    alice: "Person", gauges: "Gauges", stack: "RunningStack"
) -> None:
    inbound = {"flow_direction": "inbound", "target": "Pubsub_pubsub"}
    watched = "daprd-audit-worker"

    async def activations(policy: str) -> float:
        return await gauges.read(watched, "dapr_resiliency_activations_total", policy=policy, **inbound)

    task = await alice.create_task()
    await alice.sees_versions_audited(task, 1)
    timeouts, retries = await activations("timeout"), await activations("retry")
    stack.pause("audit-worker")
    began = time.monotonic()
    await alice.change(task, title="while it is frozen")

    async def is_tried_again() -> bool:
        return await activations("timeout") > timeouts and await activations("retry") > retries

    assert await within(PATIENCE, is_tried_again, 0.1)
    assert time.monotonic() - began >= DELIVERY_TIMEOUT - 1
    # Of a batch daprd counts no single tries: long enough for the third, at which a breaker would have opened.
    await asyncio.sleep(2 * (DELIVERY_TIMEOUT + DELIVERY_RETRY))
    assert await gauges.read(watched, "dapr_resiliency_count", policy="timeout", **inbound) > 0
    assert await gauges.read(watched, "dapr_resiliency_count", policy="circuitbreaker", **inbound) == 0
    stack.resume("audit-worker")
    await alice.sees_versions_audited(task, 2)
