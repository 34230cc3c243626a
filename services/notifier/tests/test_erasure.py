"""Notifications of somebody who is erased go, and late events make none."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from chassis.accounts import ACCOUNTS_ROUTE
from chassis.correlation import new_id
from chassis.erased_subjects import ErasedSubjects
from chassis.erasure import Erasure
from chassis.testing import (
    APP_TOKEN,
    HS256_SECRET,
    PATIENCE,
    bearer,
    deliver_bulk,
    deliver_until_taken,
    make_task_event,
)
from devstack.polling import within
from notifier.inbox.service import InboxData
from task_events import EncodedEvent, ErasureRequested, ErasureRequestedData


class Published:
    """Takes what is published."""

    open_for = 0.0

    async def publish(self, events: object) -> None:
        """Take it."""


def request_for(user: str) -> ErasureRequested:
    now = datetime.now(UTC)
    data = ErasureRequestedData(erasure_id="e-1", corr_id="c-1", requested_at=now, attempt=1)
    return ErasureRequested(id=new_id(), source="/taskwire/task-api", subject=user, time=now, data=data)


@pytest.fixture
def erasure(app: FastAPI) -> Erasure:
    subjects = ErasedSubjects(HS256_SECRET.encode())
    return Erasure("notifier", app.state.database, subjects, InboxData(), Published())


async def notifications_of(client: httpx2.AsyncClient, user: str) -> int:
    answer = await client.get("/api/v1/notifications?limit=200", headers=bearer(user))
    return len(answer.json()["items"])


async def test_all_notifications_go_and_late_events_make_none(client: httpx2.AsyncClient, erasure: Erasure) -> None:
    await deliver_bulk(client, *(make_task_event(1, version, owner_id="alice") for version in range(1, 60)))
    await deliver_bulk(client, make_task_event(2, owner_id="bob"))
    await erasure.handle(request_for("alice"))
    late = [make_task_event(1, 60, owner_id="alice"), make_task_event(2, 2, owner_id="bob")]
    assert await deliver_bulk(client, *late) == ["SUCCESS"] * 2
    assert (await notifications_of(client, "alice"), await notifications_of(client, "bob")) == (0, 2)


async def test_events_and_the_erasure_at_once_leave_nothing(client: httpx2.AsyncClient, erasure: Erasure) -> None:
    async def deliveries(task: int) -> None:
        for version in range(1, 6):
            await deliver_until_taken(client, make_task_event(task, version, owner_id="alice"))

    await asyncio.gather(*(deliveries(task) for task in range(1, 9)), erasure.handle(request_for("alice")))
    assert await notifications_of(client, "alice") == 0


async def test_without_a_sidecar_the_request_comes_again(client: httpx2.AsyncClient) -> None:
    body = request_for("alice").encode()
    assert isinstance(body, EncodedEvent)
    answer = await client.post(ACCOUNTS_ROUTE, content=body.body, headers={"dapr-api-token": APP_TOKEN})
    assert answer.json() == {"status": "RETRY"}


async def test_the_erasure_waits_for_who_is_adding_a_notification_and_finds_it(
    client: httpx2.AsyncClient, erasure: Erasure, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url, ssl=False)
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO notifications (owner_id, event_id, task_id, type, title, occurred_at)"
                " VALUES ('alice', 'e', 1, 'task.created', 'x', now())"
            )
            erasing = asyncio.create_task(erasure.handle(request_for("alice")))

            async def waits() -> bool:
                mine = "datname = current_database() AND wait_event_type = 'Lock'"
                return bool(await connection.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}"))

            assert await within(PATIENCE, waits, 0.02)
    finally:
        await connection.close()
    await erasing
    assert await notifications_of(client, "alice") == 0
