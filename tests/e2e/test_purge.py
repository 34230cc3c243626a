"""A deleted task on the whole stack: told to everybody, then purged by the service itself, and the trail remembers."""

from typing import TYPE_CHECKING

import asyncpg
import pytest
from tests.e2e.coming_back import PATIENCE

from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e
GONE = 404
STARTS = 5


async def test_a_task_is_purged_after_its_retention_and_its_trail_stays(alice: "Person", stack: "RunningStack") -> None:
    task, kept = await alice.create_task("Pay rent"), await alice.create_task("Buy milk")
    for path in (f"/tasks/{task['id']}", f"/tasks/{kept['id']}"):
        for action, body in (("complete", None), ("reopen", None), ("complete", None), ("comments", {"body": "Done"})):
            answer = await alice.ask("POST", f"{path}/{action}", body)
            assert answer.is_success, answer.text
        assert (await alice.ask("DELETE", path)).is_success
    told = ["task.created", "task.completed", "task.reopened", "task.completed", "task.deleted"]
    for one in (task, kept):
        assert [entry["type"] for entry in await alice.sees_versions_audited(one, 5)] == told
    connection = await asyncpg.connect(stack.databases["task-api"])
    try:
        aged = "UPDATE tasks SET deleted_at = now() - interval '61 days' WHERE id = $1"
        await connection.execute(aged, task["id"])

        async def purged() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM tasks WHERE id = $1", task["id"])

        # At the latest once the service has started anew: it purges when it starts, and where the database had no time
        # then, again ten minutes later.
        for _ in range(STARTS):
            await stack.kill("task-api")
            await stack.wait_all_ready()
            if await within(PATIENCE / STARTS, purged, 0.2):
                break
        assert await purged()
        left = "SELECT (SELECT count(*) FROM comments WHERE task_id = $1), count(*) FROM completions WHERE task_id = $1"
        assert [tuple(row) for row in await connection.fetch(left, task["id"])] == [(0, 0)]
        assert [tuple(row) for row in await connection.fetch(left, kept["id"])] == [(1, 2)]
    finally:
        await connection.close()
    assert (await alice.ask("POST", f"/tasks/{task['id']}/restore")).status_code == GONE
    assert (await alice.ask("POST", f"/tasks/{kept['id']}/restore")).is_success
    assert [entry["type"] for entry in await alice.audit_entries(task)] == told
    done = (await alice.ask("GET", "/completions")).json()["items"]
    assert [(item["task_id"], item["reopened_at"] is None) for item in done] == [
        (kept["id"], True),
        (kept["id"], False),
    ]
    comments = (await alice.ask("GET", f"/tasks/{kept['id']}/comments")).json()["items"]
    assert [comment["body"] for comment in comments] == ["Done"]
