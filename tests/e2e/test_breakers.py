"""Calls between processes that fail, on the real stack: the breakers around them, seen on the metrics pages.

Calls to PostgreSQL and to the identity provider have their tests in `libs/chassis/tests`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.e2e.coming_back import PATIENCE

from chassis.testing import make_task_event
from devstack.layout import HOST
from devstack.polling import within
from task_events import CONTENT_TYPE, TaskEvent

if TYPE_CHECKING:
    from tests.e2e.conftest import Gauges, Person

    from devstack.running_stack import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("whole_again")]
PUBLISH_TIMEOUT, FAILURES_THAT_OPEN = 10.0, 6  # components/resiliency.yaml
DELIVERY_TIMEOUT, DELIVERY_RETRY = 4.0, 3.0
REFUSALS = "circuit breaker is open", "too many requests"  # while half open, all but the one that is let through
SIDECAR = "daprd-task-api"


@pytest.fixture
async def sidecar(stack: "RunningStack") -> AsyncIterator[httpx2.AsyncClient]:
    """The API of task-api's daprd, with the right to use it."""
    token = stack.environment(SIDECAR)["DAPR_API_TOKEN"]
    base = f"http://{HOST}:{stack.ports.dapr_http(0)}/v1.0"
    async with httpx2.AsyncClient(base_url=base, headers={"dapr-api-token": token}, timeout=PATIENCE) as http:
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

    async def calls(*outcomes: str) -> float:
        counts = [
            await gauges.read("task-api", "taskwire_outbound_calls_total", call="dapr-publish", outcome=outcome)
            for outcome in outcomes
        ]
        return sum(counts)

    async def failures() -> float:
        return await calls("error", "timeout")

    async def is_closed() -> bool:
        return await state() == 0

    task = await alice.create_task()
    await alice.sees_versions_audited(task, 1)
    assert await within(PATIENCE, is_closed, 0.02)  # the relay has its answer a moment after the consumers the event
    before, before_of_this_kind = await failures(), await calls(outcome)
    if how == "frozen":
        stack.pause(SIDECAR)
    else:
        await stack.stop_part(SIDECAR)
    await alice.change(task, title="while the breaker is closed")

    async def is_open() -> bool:
        return await state() == 2

    async def tries_again() -> bool:
        return await failures() > until_it_opened

    async def is_in_the_backlog() -> bool:
        return await gauges.read("task-api", "taskwire_outbox_backlog_events") >= 1

    assert await within(PATIENCE, is_open, 0.02)
    until_it_opened = await failures()
    assert until_it_opened >= before + 3, "three failures in a row open it"
    assert await calls(outcome) > before_of_this_kind
    # What a caller sees of it: nothing. The event waits.
    await alice.change(task, title="while the breaker is open")
    assert await within(PATIENCE, is_in_the_backlog, 0.02)
    assert await within(PATIENCE, tries_again, 0.02), "half open, it lets one through"
    assert await calls("refused") == 0
    if how == "frozen":
        stack.resume(SIDECAR)
    else:
        await stack.start_part(SIDECAR)
    await alice.sees_versions_audited(task, 3)
    assert await within(PATIENCE, is_closed, 0.02)
    await alice.is_notified(3)


async def test_with_a_frozen_kafka_daprd_gives_up_a_publish_refuses_more_and_begins_again(
    gauges: "Gauges", stack: "RunningStack", sidecar: httpx2.AsyncClient
) -> None:
    outbound = {"flow_direction": "outbound", "target": "Pubsub_pubsub"}

    async def breaker(state: str) -> float:
        return await gauges.read(SIDECAR, "dapr_resiliency_cb_state", status=state, **outbound)

    async def timeouts() -> float:
        return await gauges.read(SIDECAR, "dapr_resiliency_activations_total", policy="timeout", **outbound)

    event = make_task_event(time.time_ns() // 1000)

    async def is_published() -> bool:
        return (await publish(sidecar, event)).status_code == 204

    async def is_closed() -> bool:
        return await is_published() and await breaker("closed") == 1

    assert await within(PATIENCE, is_closed, 0.2)
    before = await timeouts()
    stack.pause("kafka")
    said: Counter[str] = Counter()

    async def all_are_refused() -> bool:
        """Ask at the same time, or it would take a minute until so many have failed in a row."""
        began, timeouts_before = time.monotonic(), await timeouts()
        answers = await asyncio.gather(*(publish(sidecar, event) for _ in range(FAILURES_THAT_OPEN)))
        took = time.monotonic() - began
        assert {answer.status_code for answer in answers} == {500}
        given_up = sum("deadline exceeded" in answer.text for answer in answers)
        refused = sum(any(words in answer.text for words in REFUSALS) for answer in answers)
        assert given_up + refused == FAILURES_THAT_OPEN, [answer.text for answer in answers]
        assert not given_up or took >= PUBLISH_TIMEOUT - 1
        said.update(given_up=given_up, refused=refused)
        return not given_up and await timeouts() == timeouts_before and await breaker("open") == 1

    assert await within(PATIENCE, all_are_refused, 0), said
    assert said["given_up"] >= FAILURES_THAT_OPEN
    assert await timeouts() >= before + said["given_up"]
    stack.resume("kafka")
    assert await within(PATIENCE, is_closed, 0.2)


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
    await alice.change(task, title="while it is frozen")

    async def is_tried_again() -> bool:
        return await activations("timeout") > timeouts and await activations("retry") > retries

    assert await within(PATIENCE, is_tried_again, 0.1)
    # Of a batch daprd counts no single tries: long enough for the third, at which a breaker would have opened.
    await asyncio.sleep(2 * (DELIVERY_TIMEOUT + DELIVERY_RETRY))
    assert await gauges.read(watched, "dapr_resiliency_count", policy="timeout", **inbound) > 0
    assert await gauges.read(watched, "dapr_resiliency_count", policy="circuitbreaker", **inbound) == 0
    stack.resume("audit-worker")
    await alice.sees_versions_audited(task, 2)
