"""The erasure of an account as task-api drives it: refused at once, confirmed by all, and nothing left at the end."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from chassis.accounts import ACCOUNTS_ROUTE
from chassis.correlation import new_id
from chassis.database import Database
from chassis.testing import APP_TOKEN, PATIENCE, bearer, scrape, serving, settings_for
from devstack.polling import within
from task_api.app import create_app
from task_api.settings import TaskApiSettings
from task_events import ErasureConfirmed, ErasureConfirmedData

ME = "/api/v1/users/me"


@pytest.fixture
def settings(database_url: str) -> TaskApiSettings:
    quick = {"erasure_settle": 4, "erasure_ask_again": 1, "erasure_alarm": 1}
    return settings_for(TaskApiSettings, database_url, **quick)


@pytest.fixture
async def other_replica(settings: TaskApiSettings) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(create_app(settings)) as client:
        yield client


async def erase(client: httpx2.AsyncClient, user: str) -> str:
    answer = await client.request("DELETE", ME, json={"confirm": user}, headers=bearer(user))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def confirm(client: httpx2.AsyncClient, user: str, erasure_id: str, service: str) -> str:
    now = datetime.now(UTC)
    data = ErasureConfirmedData(erasure_id=erasure_id, corr_id="c", service=service, confirmed_at=now)
    event = ErasureConfirmed(id=new_id(), source=f"/taskwire/{service}", subject=user, time=now, data=data)
    wrapped = {"data_base64": base64.b64encode(event.encode().body).decode()}
    answer = await client.post(ACCOUNTS_ROUTE, content=json.dumps(wrapped), headers={"dapr-api-token": APP_TOKEN})
    return str(answer.json()["status"])


async def shown(client: httpx2.AsyncClient, user: str, erasure_id: str) -> dict[str, Any]:
    answer = await client.get(f"{ME}/erasure/{erasure_id}", headers=bearer(user))
    assert answer.status_code == 200, answer.text
    status: dict[str, Any] = answer.json()
    return status


async def run(database: Database, statement: str, **values: object) -> list[Any]:
    async with database.session() as session:
        result = await (await session.connection()).execute(text(statement), values)
        rows = list(result) if result.returns_rows else []
        await session.commit()
        return rows


async def is_done(client: httpx2.AsyncClient, database: Database, user: str, erasure_id: str) -> bool:
    """Wait for it, while the events of whatever is asked again leave the outbox, as if a relay sent them."""

    async def there() -> bool:
        await run(database, "DELETE FROM outbox")
        return bool((await shown(client, user, erasure_id))["state"] == "done")

    return await within(PATIENCE, there, 0.1)


async def fill(client: httpx2.AsyncClient, user: str) -> None:
    headers = bearer(user) | {"Idempotency-Key": "k"}
    made = (await client.post("/api/v1/tasks", json={"title": f"of {user}"}, headers=headers)).json()
    below = {"title": f"below of {user}", "parent_id": made["id"]}
    await client.post("/api/v1/tasks", json=below, headers=bearer(user))
    await client.post(f"/api/v1/tasks/{made['id']}/complete", headers=bearer(user))
    await client.post(f"/api/v1/tasks/{made['id']}/comments", json={"body": f"by {user}"}, headers=bearer(user))
    await client.post("/api/v1/calendar-feeds", json={"name": f"of {user}"}, headers=bearer(user))
    await client.patch(ME, json={"preferences": {"mine": user}}, headers=bearer(user))


async def holding(database: Database, user: str) -> list[str]:
    """Every table that holds the user's id."""
    tables = await run(
        database, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    found = []
    for (table,) in tables:
        if await run(database, f'SELECT 1 FROM "{table}" AS t WHERE t::text LIKE :user LIMIT 1', user=f"%{user}%"):
            found.append(table)
    return sorted(found)


async def test_when_all_have_confirmed_nothing_is_left_but_a_digest(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for user in ("alice-1", "bob-1"):
        await fill(client, user)
    assert len(await holding(database, "alice-1")) >= 7
    erasure_id = await erase(client, "alice-1")
    assert (await shown(client, "alice-1", erasure_id))["state"] == "waiting_for_services"
    for service in ("notifier", "audit-worker", "notifier"):
        assert await confirm(client, "alice-1", erasure_id, service) == "SUCCESS"
    assert (await shown(client, "alice-1", erasure_id))["state"] == "erasing"
    await asyncio.sleep(6)  # longer than it takes at least, with two looks more
    assert len(await holding(database, "alice-1")) >= 5, "not before its events have left the outbox"
    assert await is_done(client, database, "alice-1", erasure_id)
    assert await holding(database, "alice-1") == []
    await run(database, "DELETE FROM outbox")
    assert {"tasks", "comments", "completions", "calendar_feeds", "profiles"} <= set(await holding(database, "bob-1"))
    assert (await client.get("/api/v1/tasks", headers=bearer("bob-1"))).status_code == 200


async def test_the_request_and_its_event_are_there_together_and_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    ids = await asyncio.gather(*(erase(client, "alice") for _ in range(5)))
    assert len(set(ids)) == 1
    rows = await run(database, "SELECT topic, key, aggregate_version, payload->>'erasure_id' FROM outbox ORDER BY 3")
    assert tuple(rows[0]) == ("accounts", "alice", 1, ids[0])
    assert [row[2] for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("body", [{}, {"confirm": "bob"}, {"confirm": "alice", "really": True}, None])
async def test_without_ones_own_name_in_the_body_nothing_happens(
    client: httpx2.AsyncClient, database: Database, body: dict[str, object] | None
) -> None:
    answer = await client.request("DELETE", ME, json=body, headers=bearer("alice"))
    assert answer.status_code == 422
    assert await run(database, "SELECT 1 FROM account_erasures") == []


async def test_a_service_that_does_not_confirm_is_asked_again_and_an_alarm_says_so(
    client: httpx2.AsyncClient, database: Database
) -> None:
    erasure_id = await erase(client, "alice")
    await confirm(client, "alice", erasure_id, "notifier")

    async def asked_three_times() -> bool:
        attempts = [row[0] for row in await run(database, "SELECT aggregate_version FROM outbox ORDER BY 1")]
        return attempts[:3] == [1, 2, 3]

    assert await within(PATIENCE, asked_three_times, 0.2)

    async def overdue() -> bool:
        return await scrape(client, "taskwire_erasures_overdue") == 1

    assert await within(PATIENCE, overdue, 0.2)
    assert await scrape(client, "taskwire_erasures_open") == 1
    assert await scrape(client, "taskwire_erasures_oldest_age_seconds") > 1
    services = {
        part["service"]: part["confirmed_at"] for part in (await shown(client, "alice", erasure_id))["services"]
    }
    assert [services["audit-worker"], services["task-api"]] == [None, None]
    assert services["notifier"] is not None


async def test_many_that_wait_for_a_service_keep_none_waiting_that_need_not(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("task_api.erasure.saga._AT_ONCE", 2)
    for number in range(5):
        await erase(client, f"early-{number}")
    late = await erase(client, "late")
    for service in ("notifier", "audit-worker"):
        assert await confirm(client, "late", late, service) == "SUCCESS"
    assert await is_done(client, database, "late", late)


async def test_confirmations_that_are_nobodys_change_nothing(client: httpx2.AsyncClient, database: Database) -> None:
    erasure_id = await erase(client, "alice")
    for user, of, service in (
        ("mallory", erasure_id, "notifier"),
        ("alice", new_id(), "notifier"),
        ("alice", "no id", "notifier"),
        ("alice", erasure_id, "somebody"),
    ):
        assert await confirm(client, user, of, service) == "SUCCESS"
    assert await run(database, "SELECT 1 FROM account_erasure_confirmations") == []


async def test_one_who_is_erased_gets_in_nowhere_and_others_see_nothing_of_it(
    client: httpx2.AsyncClient, other_replica: httpx2.AsyncClient
) -> None:
    erasure_id = await erase(client, "alice")
    refused = await client.get("/api/v1/tasks", headers=bearer("alice"))
    assert (refused.status_code, refused.json()["code"]) == (410, "account_erased")

    async def refused_there() -> bool:
        return (await other_replica.get("/api/v1/tasks", headers=bearer("alice"))).status_code == 410

    assert await within(PATIENCE, refused_there, 0.1)
    others = await client.get(f"{ME}/erasure/{erasure_id}", headers=bearer("bob"))
    assert (others.status_code, others.json()["code"]) == (403, "erasure_forbidden")
    nothing = await client.get(f"{ME}/erasure/{new_id()}", headers=bearer("bob"))
    assert (nothing.status_code, nothing.json()["code"]) == (404, "erasure_not_found")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/tasks", {"title": "x"}),
        ("POST", "/api/v1/calendar-feeds", {"name": "x"}),
        ("PATCH", ME, {"name": "x"}),
    ],
)
async def test_a_replica_that_has_not_heard_of_it_yet_adds_nothing_either(
    app: FastAPI, client: httpx2.AsyncClient, database: Database, method: str, path: str, body: dict[str, str]
) -> None:
    await erase(client, "alice")
    app.state.account_gate = None  # what a gate is that has not read yet
    before = await holding(database, "alice")
    answer = await client.request(method, path, json=body, headers=bearer("alice"))
    assert (answer.status_code, answer.json()["code"]) == (410, "account_erased")
    assert await holding(database, "alice") == before


async def test_a_transaction_that_began_before_the_request_is_waited_for(
    client: httpx2.AsyncClient, database: Database
) -> None:
    async with database.session() as session:
        add = (
            "INSERT INTO tasks (owner_id, title, priority, completed, version, created_at, updated_at)"
            " VALUES ('alice', 'late', 'low', false, 1, now(), now())"
        )
        await (await session.connection()).execute(text(add))
        erasure_id = await erase(client, "alice")
        for service in ("notifier", "audit-worker"):
            await confirm(client, "alice", erasure_id, service)
        await run(database, "DELETE FROM outbox")
        await asyncio.sleep(6)  # longer than it takes at least, with two looks more
        assert (await shown(client, "alice", erasure_id))["state"] == "erasing"
        await session.commit()
    assert await is_done(client, database, "alice", erasure_id)
    assert await holding(database, "alice") == []


async def test_two_replicas_drive_many_erasures_at_once_and_each_is_done(
    client: httpx2.AsyncClient, other_replica: httpx2.AsyncClient, database: Database
) -> None:
    users = [f"user-{number}" for number in range(6)]
    for user in users:
        await fill(client, user)
    begun = {user: await erase(client, user) for user in users}
    for user, erasure_id in begun.items():
        for service in ("notifier", "audit-worker"):
            await confirm(other_replica, user, erasure_id, service)
    for user, erasure_id in begun.items():
        assert await is_done(client, database, user, erasure_id)
        assert await holding(database, user) == []
