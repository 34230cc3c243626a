"""Bad days: a part is down; task changes succeed or say 503, and nothing is lost, doubled or reordered."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx2
import pytest
from tests.e2e.coming_back import PATIENCE

from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Json, Person

    from devstack.running_stack import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("whole_again")]


@pytest.fixture
async def hasty_alice(alice: "Person") -> "AsyncIterator[Person]":
    """Alice, who sees every answer: also one that tells her to come back."""
    async with httpx2.AsyncClient(headers=alice.http.headers, timeout=PATIENCE) as http:
        yield replace(alice, http=http)


@pytest.mark.parametrize("part", ["kafka", "daprd-task-api"])
async def test_without_the_way_out_changes_succeed_and_their_events_flow_later(
    alice: "Person", stack: "RunningStack", part: str
) -> None:
    task = await alice.create_task()
    await alice.sees_versions_audited(task, 1)
    await stack.stop_part(part)
    for number in range(5):
        await alice.change(task, title=f"while {part} is down {number}")
    assert (await alice.http.get(f"{alice.urls['task-api']}/health/ready")).status_code == 200
    assert len(await alice.audit_entries(task)) == 1
    await stack.start_part(part)
    await alice.sees_versions_audited(task, 6)
    await alice.is_notified(6)


@pytest.mark.parametrize("part", ["audit-worker", "notifier", "daprd-audit-worker", "daprd-notifier"])
async def test_a_consumer_that_was_down_catches_up(alice: "Person", stack: "RunningStack", part: str) -> None:
    await stack.stop_part(part)
    task = await alice.create_task()
    for number in range(5):
        task = await alice.change(task, title=f"while {part} is down {number}")
    await stack.start_part(part)
    await alice.sees_versions_audited(task, 6)
    await alice.is_notified(6)


async def test_without_postgresql_callers_are_told_to_come_back_and_it_heals_without_restart(
    alice: "Person", hasty_alice: "Person", stack: "RunningStack"
) -> None:
    task = await alice.create_task()
    pids = {name: stack.pid(name) for name in alice.urls}
    await stack.stop_part("postgres")
    for method, path, body in (
        ("POST", "/tasks", {"title": "x"}),
        ("GET", f"/tasks/{task['id']}", None),
        ("PATCH", f"/tasks/{task['id']}", {"title": "y"}),
        ("DELETE", f"/tasks/{task['id']}", None),
    ):
        response = await hasty_alice.ask(method, path, body)
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable"), response.text
        assert int(response.headers["retry-after"]) >= 1
    for url in alice.urls.values():
        response = await hasty_alice.http.get(f"{url}/health/ready")
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert "database" in response.json()["detail"]
        assert (await hasty_alice.http.get(f"{url}/health/live")).status_code == 200
    await stack.start_part("postgres")

    healed: list[Json] = []

    async def heals() -> bool:
        answer = await hasty_alice.ask("PATCH", f"/tasks/{task['id']}", {"title": "back"})
        healed[:] = [answer.json()] if answer.status_code == 200 else []
        return bool(healed)

    assert await within(PATIENCE, heals, 0.2)
    await alice.sees_versions_audited(task, healed[0]["version"])
    assert {name: stack.pid(name) for name in alice.urls} == pids


@pytest.mark.parametrize(
    "part", ["task-api", "daprd-task-api", "kafka", "daprd-audit-worker", "audit-worker", "notifier", "postgres"]
)
async def test_a_sigkill_amid_traffic_loses_doubles_and_reorders_nothing(
    alice: "Person", hasty_alice: "Person", stack: "RunningStack", part: str
) -> None:
    tasks = [await alice.create_task(f"task {number}") for number in range(4)]
    acknowledged = {task["id"]: 0 for task in tasks}
    stop = asyncio.Event()

    async def write(task_id: int) -> None:
        """Change a task again and again; what was not acknowledged may have happened or not, so look it up."""
        while not stop.is_set():
            try:
                response = await hasty_alice.ask("PATCH", f"/tasks/{task_id}", {"title": f"{part} {uuid4()}"})
            except OSError:
                await asyncio.sleep(0.1)
                continue
            except Exception as error:  # noqa: BLE001 (whatever a dying server makes of a request)
                assert "httpx2" in type(error).__module__, error
                await asyncio.sleep(0.1)
                continue
            assert response.status_code in {200, 503}, response.text
            acknowledged[task_id] += response.status_code == 200
            await asyncio.sleep(0.02)

    async def each_goes_on() -> None:
        before = dict(acknowledged)

        async def they_did() -> bool:
            return all(acknowledged[task] >= count + 5 for task, count in before.items())

        assert await within(PATIENCE, they_did, 0.05), (before, acknowledged)

    writers = [asyncio.create_task(write(task["id"])) for task in tasks]
    await each_goes_on()
    await stack.kill(part, signal.SIGKILL)
    await stack.wait_all_ready()
    await each_goes_on()
    stop.set()
    await asyncio.gather(*writers)
    versions = {task["id"]: (await alice.ask("GET", f"/tasks/{task['id']}")).json()["version"] for task in tasks}
    assert all(versions[task_id] > count for task_id, count in acknowledged.items())
    for task in tasks:
        await alice.sees_versions_audited(task, versions[task["id"]])
    await alice.is_notified(sum(versions.values()))
