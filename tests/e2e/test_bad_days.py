"""Bad days: a part is down; task changes succeed or say 503, and nothing is lost, doubled or reordered."""

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("whole_again")]
PATIENCE = 90.0


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
    alice: "Person", stack: "RunningStack"
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
        response = await alice.ask(method, path, body)
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable"), response.text
        assert int(response.headers["retry-after"]) >= 1
    for url in alice.urls.values():
        response = await alice.http.get(f"{url}/health/ready")
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert "database" in response.json()["detail"]
        assert (await alice.http.get(f"{url}/health/live")).status_code == 200
    await stack.start_part("postgres")

    async def heals() -> bool:
        return (await alice.ask("PATCH", f"/tasks/{task['id']}", {"title": "back"})).status_code == 200

    assert await within(PATIENCE, heals, 0.2)
    await alice.sees_versions_audited(task, 2)
    assert {name: stack.pid(name) for name in alice.urls} == pids


@pytest.mark.parametrize(
    "part", ["task-api", "daprd-task-api", "kafka", "daprd-audit-worker", "audit-worker", "notifier", "postgres"]
)
async def test_a_sigkill_amid_traffic_loses_doubles_and_reorders_nothing(
    alice: "Person", stack: "RunningStack", part: str
) -> None:
    tasks = [await alice.create_task(f"task {number}") for number in range(4)]
    versions = dict.fromkeys((task["id"] for task in tasks), 1)
    stop = asyncio.Event()

    async def write(task: dict[str, Any]) -> None:
        """Change a task again and again; what was not acknowledged may have happened or not, so look it up."""
        number = 0
        while not stop.is_set():
            number += 1
            try:
                response = await alice.ask("PATCH", f"/tasks/{task['id']}", {"title": f"{part} {number}"})
            except OSError:
                await asyncio.sleep(0.1)
                continue
            except Exception as error:  # noqa: BLE001 (whatever a dying server makes of a request)
                assert "httpx2" in type(error).__module__, error
                await asyncio.sleep(0.1)
                continue
            assert response.status_code in {200, 503}, response.text
            await asyncio.sleep(0.02)

    writers = [asyncio.create_task(write(task)) for task in tasks]
    await asyncio.sleep(0.5)
    await stack.kill(part, signal.SIGKILL)
    await stack.wait_all_ready()
    await asyncio.sleep(0.5)
    stop.set()
    await asyncio.gather(*writers)
    for task in tasks:
        response = await alice.ask("GET", f"/tasks/{task['id']}")
        versions[task["id"]] = response.json()["version"]
        assert versions[task["id"]] > 1
    for task in tasks:
        await alice.sees_versions_audited(task, versions[task["id"]])
    if sum(versions.values()) <= 200:
        await alice.is_notified(sum(versions.values()))
