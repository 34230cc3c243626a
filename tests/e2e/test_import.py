"""An import on the whole stack: every task of the file is audited and its owner notified, like any other change."""

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

pytestmark = pytest.mark.e2e


async def test_each_task_of_an_imported_file_is_audited_and_notified(alice: "Person") -> None:
    rows = [
        {"id": 1, "title": "top"},
        {"id": 2, "parent_id": 1, "title": "done", "completed": True},
        {"title": "third"},
    ]
    content = json.dumps({"format": "taskwire-tasks", "version": 1, "tasks": rows}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": '"an import"'}
    url = f"{alice.urls['task-api']}/api/v1/tasks"
    for expected in ((3, 0), (0, 3)):
        report = (await alice.http.post(f"{url}/import", content=content, headers=headers)).json()
        assert (report["created"], report["already_imported"]) == expected
    tasks = (await alice.http.get(url, params={"sort": "position"})).json()["items"]
    assert [task["title"] for task in tasks] == ["top", "done", "third"]
    for task in tasks:
        (entry,) = await alice.sees_versions_audited(task, 1)
        assert entry["type"] == "task.created"
        assert entry["changes"]["title"]["new"] == task["title"]
    await alice.is_notified(3)
