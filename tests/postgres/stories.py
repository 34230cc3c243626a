"""What people and events do with a service, whichever release it is of: everything that writes, and the lists."""

from typing import Final

import httpx2
from fastapi import FastAPI

from audit_worker.app import create_app as create_audit_worker
from audit_worker.settings import AuditWorkerSettings
from chassis.testing import bearer, deliver_until_taken, make_task_event, post_dead_letter, settings_for
from notifier.app import create_app as create_notifier
from notifier.settings import NotifierSettings

_IMPORTED: Final = {"format": "taskwire-tasks", "version": 1, "tasks": [{"title": "imported"}]}


KEPT: Final = {"audit_worker": "audit_entries", "notifier": "notifications"}
"""Where a consumer puts what an event makes it do; what it could not process is among the dead letters instead."""


def consumer(module: str, url: str) -> FastAPI:
    """Make the application of audit-worker or notifier on this database."""
    if module == "audit_worker":
        return create_audit_worker(settings_for(AuditWorkerSettings, url))
    return create_notifier(settings_for(NotifierSettings, url))


async def story_of_a_task(client: httpx2.AsyncClient) -> int:
    """Make a task, change, complete, comment, list and delete it; gives its id."""
    alice, path = bearer("alice"), "/api/v1/tasks"
    again = alice | {"Idempotency-Key": "once"}
    made = await client.post(path, json={"title": "milk", "tags": ["x"]}, headers=again)
    assert (await client.post(path, json={"title": "milk", "tags": ["x"]}, headers=again)).json() == made.json()
    task = f"{path}/{made.json()['id']}"
    for answer, wanted in (
        (await client.patch(task, json={"priority": "high"}, headers=alice), 200),
        (await client.post(f"{task}/complete", headers=alice), 200),
        (await client.post(f"{task}/comments", json={"body": "well"}, headers=alice), 201),
        (await client.get(f"{path}?q=mil&tag=x", headers=alice), 200),
        (await client.get("/api/v1/completions", headers=alice), 200),
        (await client.get(f"{path}/changes", headers=alice), 200),
        (await client.post("/api/v1/calendar-feeds", json={"name": "x"}, headers=alice), 201),
        (await client.post(f"{path}/import", json=_IMPORTED, headers=again), 200),
        (await client.delete(task, headers=alice), 204),
        (await client.get(task, headers=alice), 404),
    ):
        assert answer.status_code == wanted, answer.text
        if wanted == 200 and "items" in answer.text:
            assert "milk" in answer.text
    return int(made.json()["id"])


async def story_of_events(client: httpx2.AsyncClient) -> None:
    """Deliver two events of a task with a gap between them, one of them twice, and a dead letter."""
    first, third = make_task_event(1), make_task_event(1, 3)
    await deliver_until_taken(client, first, third)
    await deliver_until_taken(client, first)
    assert (await post_dead_letter(client, b"no event")).json() == {"status": "SUCCESS"}
