"""Writes that frontends can trust, on the whole stack: bulks tell everybody, a key does once what a kill cut off."""

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.e2e.coming_back import PATIENCE

from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e
CONFLICT = 409


async def test_each_change_of_a_bulk_is_audited_in_order_and_notified(alice: "Person") -> None:
    creations = [{"op": "create", "task": {"title": f"task {number}"}} for number in range(3)]
    made = (await alice.ask("POST", "/tasks/bulk", {"operations": creations})).json()["results"]
    first, second, third = [result["task"] for result in made]
    operations = [
        {"op": "update", "id": first["id"], "changes": {"title": "changed"}},
        {"op": "complete", "id": second["id"]},
        {"op": "complete", "id": first["id"]},
        {"op": "delete", "id": second["id"]},
        {"op": "restore", "id": second["id"]},
        {"op": "reopen", "id": third["id"]},
    ]
    answer = (await alice.ask("POST", "/tasks/bulk", {"operations": operations})).json()
    assert answer["failed"] == 0
    expected = {
        first["id"]: ["task.created", "task.updated", "task.completed"],
        second["id"]: ["task.created", "task.completed", "task.deleted", "task.restored"],
        third["id"]: ["task.created"],
    }
    for task in (first, second, third):
        entries = await alice.sees_versions_audited(task, len(expected[task["id"]]))
        assert [entry["type"] for entry in entries] == expected[task["id"]]
    await alice.is_notified(8)


async def sent_again(alice: "Person", url: str, body: dict[str, Any], headers: dict[str, str]) -> httpx2.Response:
    """Send a request until it is not told to wait: PostgreSQL may take a moment to notice that the first is dead."""
    answers: list[httpx2.Response] = []

    async def answered() -> bool:
        answers.append(await alice.http.post(url, json=body, headers=headers))
        return answers[-1].status_code != CONFLICT

    assert await within(PATIENCE, answered, 0.2)
    return answers[-1]


async def test_a_keyed_bulk_that_a_sigkill_cut_off_is_done_once_when_sent_again(
    alice: "Person", stack: "RunningStack"
) -> None:
    """The kill comes at another moment each time: before, amid or after the commit, the answer is the same."""
    url = f"{alice.urls['task-api']}/api/v1/tasks/bulk"
    cut_off = 0
    for number, moment in enumerate((0.0, 0.005, 0.02, 0.05)):
        body = {"operations": [{"op": "create", "task": {"title": f"{number}-{item}"}} for item in range(200)]}
        headers = {"Idempotency-Key": f"bulk-{number}"}
        request = asyncio.create_task(alice.http.post(url, json=body, headers=headers))
        await asyncio.sleep(moment)
        await stack.kill("task-api", signal.SIGKILL)
        (first,) = await asyncio.gather(request, return_exceptions=True)
        cut_off += not isinstance(first, httpx2.Response)
        await stack.wait_all_ready()
        again = await sent_again(alice, url, body, headers)
        assert (again.status_code, again.json()["succeeded"]) == (200, 200), again.text
        if isinstance(first, httpx2.Response):
            assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
        listed: dict[str, Any] = (await alice.ask("GET", "/tasks?limit=200&total=true")).json()
        assert listed["total"] == 200 * (number + 1)
        await alice.sees_versions_audited(again.json()["results"][-1]["task"], 1)
    assert cut_off
