"""The three services, each for real: over sockets, on a database of its own, with something in it."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import uvicorn
from fastapi import FastAPI

import audit_worker.app
import notifier.app
import task_api.app
from audit_worker.settings import AuditWorkerSettings
from chassis.migrations import upgrade
from chassis.testing import bearer, deliver_bulk, make_task_event, post_dead_letter, settings_for
from devstack.polling import within
from devstack.throwaway import DatabaseFactory
from notifier.settings import NotifierSettings
from task_api.settings import TaskApiSettings

CALLER: Final = bearer("alice", "admin", "auditor")
KNOWN_IDS: Final = 12
"""Alice's tasks, her notifications and the dead letters have the ids from 1 to this."""
SECRET: Final = "the same in every run, so that cursors are the same too"
_PATIENCE: Final = 90.0

Fill = Callable[[httpx2.AsyncClient], Any]


@dataclass(frozen=True)
class Service:
    """How to make a service, and what to fill it with."""

    package: str
    make: Callable[[str], FastAPI]
    fill: Fill


@dataclass(frozen=True)
class Running:
    """A service that runs."""

    address: str
    database_url: str


async def _tasks(client: httpx2.AsyncClient) -> None:
    more: list[dict[str, object]] = [{} for _ in range(KNOWN_IDS)]
    more[3] = {"recurrence": {"rule": "FREQ=DAILY"}, "due_at": "2100-01-01T08:00:00Z", "tags": ["home", "deep work"]}
    more[5] = more[6] = {"parent_id": 5}
    for number, fields in enumerate(more):
        made = await client.post("/api/v1/tasks", json={"title": f"milk {number}"} | fields, headers=CALLER)
        assert (made.status_code, made.json()["id"]) == (201, number + 1), made.text
    for path in ("2/complete", "3/complete"):
        assert (await client.post(f"/api/v1/tasks/{path}", headers=CALLER)).status_code == 200
    for number in range(KNOWN_IDS):
        await _engagement(client, number + 1)
    assert (await client.delete("/api/v1/tasks/9", headers=CALLER)).status_code == 204
    assert (await client.post("/api/v1/tasks", json={"title": "x"}, headers=bearer("bob"))).status_code == 201


async def _engagement(client: httpx2.AsyncClient, engagement_id: int) -> None:
    """Make an engagement with bob in it."""
    path = "/api/v1/engagements"
    made = await client.post(path, json={"name": "x"}, headers=CALLER)
    assert made.json()["id"] == engagement_id
    invited = await client.post(f"{path}/{engagement_id}/invitations", json={"role": "owner"}, headers=CALLER)
    token = {"token": invited.json()["token"]}
    joined = await client.post(f"{path}/invitations/accept", json=token, headers=bearer("bob"))
    assert joined.status_code == 200, joined.text
    await client.post(f"{path}/{engagement_id}/invitations", json={"role": "viewer"}, headers=CALLER)


async def _events(client: httpx2.AsyncClient) -> None:
    events = [make_task_event(number + 1) for number in range(KNOWN_IDS)] + [make_task_event(3, 4)]
    assert set(await deliver_bulk(client, *events)) == {"SUCCESS"}
    for offset in range(KNOWN_IDS):
        body = json.dumps({"no": "event", "number": offset}).encode()
        assert (await post_dead_letter(client, body, offset=offset)).status_code == 200


def _task_api(url: str) -> FastAPI:
    nobody = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
    return task_api.app.create_app(
        settings_for(TaskApiSettings, url, stream_heartbeat=0.1, cursor_secret=SECRET, **nobody)
    )


SERVICES: Final = {
    "task-api": Service("task_api", _task_api, _tasks),
    "audit-worker": Service(
        "audit_worker", lambda url: audit_worker.app.create_app(settings_for(AuditWorkerSettings, url)), _events
    ),
    "notifier": Service("notifier", lambda url: notifier.app.create_app(settings_for(NotifierSettings, url)), _events),
}


@asynccontextmanager
async def running(name: str, databases: DatabaseFactory) -> AsyncIterator[Running]:
    """Run a service in a thread of its own."""
    service = SERVICES[name]
    async with databases.fresh(service.package, lambda url: upgrade(service.package, url)) as url:
        server = uvicorn.Server(uvicorn.Config(service.make(url), log_config=None, ws="none"))
        # Called TCP by name, as only then asyncio sends small answers at once: each would else take 40 ms.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])), name=name)
        thread.start()
        address = f"http://127.0.0.1:{sock.getsockname()[1]}"
        try:

            async def started() -> bool:
                return server.started

            assert await within(_PATIENCE, started, 0.02)
            async with httpx2.AsyncClient(base_url=address, timeout=_PATIENCE) as client:
                await service.fill(client)
            yield Running(address, url)
        finally:
            server.should_exit = True
            await asyncio.to_thread(thread.join)
            sock.close()
