"""Somebody is erased who was in engagements: their name goes everywhere, and so does what was theirs alone."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from chassis.accounts import ACCOUNTS_ROUTE
from chassis.correlation import new_id
from chassis.database import Database
from chassis.testing import APP_TOKEN, PATIENCE, bearer, settings_for
from devstack.polling import within
from task_api.engagements import ending
from task_api.settings import TaskApiSettings
from task_events import ErasureConfirmed, ErasureConfirmedData

TASKS, ENGAGEMENTS, ME = "/api/v1/tasks", "/api/v1/engagements", "/api/v1/users/me"
ALICE, BOB = "alice", "bob"
HOLD_ENDING: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('end engagements', 0))")
MakeEngagement = Callable[..., Awaitable[int]]


@pytest.fixture(autouse=True)
def looks_often_for_engagements_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_INTERVAL", 0.5)


@pytest.fixture
def settings(database_url: str) -> TaskApiSettings:
    return settings_for(TaskApiSettings, database_url, erasure_settle=4)


async def run(database: Database, statement: str) -> list[Any]:
    async with database.session() as session:
        result = await (await session.connection()).execute(text(statement))
        rows = list(result) if result.returns_rows else []
        await session.commit()
        return rows


async def begin(client: httpx2.AsyncClient, user: str) -> str:
    answer = await client.request("DELETE", ME, json={"confirm": user}, headers=bearer(user))
    assert answer.status_code == 202, answer.text
    erasure_id = str(answer.json()["id"])
    now = datetime.now(UTC)
    for service in ("notifier", "audit-worker"):
        data = ErasureConfirmedData(erasure_id=erasure_id, corr_id="c", service=service, confirmed_at=now)
        event = ErasureConfirmed(id=new_id(), source=f"/taskwire/{service}", subject=user, time=now, data=data)
        wrapped = json.dumps({"data_base64": base64.b64encode(event.encode().body).decode()})
        answer = await client.post(ACCOUNTS_ROUTE, content=wrapped, headers={"dapr-api-token": APP_TOKEN})
        assert answer.json() == {"status": "SUCCESS"}
    return erasure_id


async def state(client: httpx2.AsyncClient, user: str, erasure_id: str) -> str:
    answer = await client.get(f"{ME}/erasure/{erasure_id}", headers=bearer(user))
    return str(answer.json()["state"])


async def is_done(client: httpx2.AsyncClient, user: str, erasure_id: str) -> bool:
    async def done() -> bool:
        return await state(client, user, erasure_id) == "done"

    return await within(PATIENCE, done, 0.1)


async def passes_the_time_it_takes_at_least(database: Database) -> None:
    await run(database, "UPDATE account_erasures SET requested_at = requested_at - interval '1 minute'")
    await asyncio.sleep(3)  # two looks at least


async def holding(database: Database, user: str) -> list[str]:
    """Every table that holds the user's id."""
    tables = await run(
        database, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    places = [table for (table,) in tables]
    return [one for one in places if await run(database, f"SELECT 1 FROM \"{one}\" AS t WHERE t::text LIKE '%{user}%'")]


async def create(client: httpx2.AsyncClient, engagement_id: int, user: str, title: str = "x") -> int:
    body = {"title": title, "engagement_id": engagement_id}
    made: int = (await client.post(TASKS, json=body, headers=bearer(user))).json()["id"]
    return made


async def test_it_is_not_done_while_an_engagement_that_ends_names_the_user(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement()
    await create(client, one, ALICE)
    async with database.session() as another_replica_is_slow:
        await (await another_replica_is_slow.connection()).execute(HOLD_ENDING)
        erasure_id = await begin(client, ALICE)
        await run(database, "DELETE FROM outbox")
        await passes_the_time_it_takes_at_least(database)
        assert await state(client, ALICE, erasure_id) == "erasing"

    async def deletions_are_told() -> bool:
        return bool(await run(database, "SELECT 1 FROM outbox WHERE type = 'task.deleted'"))

    assert await within(PATIENCE, deletions_are_told, 0.1)
    await run(database, "DELETE FROM outbox")
    assert await is_done(client, ALICE, erasure_id)
    assert await holding(database, ALICE) == []


async def test_it_is_not_done_while_an_event_that_names_the_user_as_a_member_is_unsent(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement(bob="owner")
    await create(client, one, BOB)
    erasure_id = await begin(client, ALICE)
    await passes_the_time_it_takes_at_least(database)
    assert await state(client, ALICE, erasure_id) == "erasing"
    await run(database, "DELETE FROM outbox")
    assert await is_done(client, ALICE, erasure_id)
    assert await holding(database, ALICE) == []


async def test_a_replica_that_has_not_heard_of_it_yet_lets_the_user_into_nothing(
    app: FastAPI, client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement()
    invited = await client.post(f"{ENGAGEMENTS}/{one}/invitations", json={"role": "editor"}, headers=bearer(ALICE))
    await client.request("DELETE", ME, json={"confirm": BOB}, headers=bearer(BOB))
    app.state.account_gate = None  # what a gate is that has not read yet
    token = {"token": invited.json()["token"]}
    for path, body in (
        (ENGAGEMENTS, {"name": "x"}),
        (f"{ENGAGEMENTS}/invitations/accept", token),
        ("/api/v1/api-keys", {"name": "x", "scopes": ["tasks:read"]}),
    ):
        answer = await client.post(path, json=body, headers=bearer(BOB))
        assert (answer.status_code, answer.json()["code"]) == (410, "account_erased"), path
    assert await run(database, "SELECT user_id FROM engagement_members WHERE user_id = 'bob'") == []
    assert await run(database, "SELECT 1 FROM api_keys") == []


async def test_what_ends_with_its_last_member_is_theirs_and_goes_for_good(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    alone, shared, before = await engagement(), await engagement(bob="viewer"), await engagement()
    for one, title in ((alone, "secret one"), (shared, "for all"), (before, "secret two")):
        task_id = await create(client, one, ALICE, title)
        await client.post(f"{TASKS}/{task_id}/complete", headers=bearer(ALICE))
    await client.patch(f"{ENGAGEMENTS}/{alone}", json={"name": "secret name"}, headers=bearer(ALICE))
    async with database.session() as another_replica_is_slow:
        await (await another_replica_is_slow.connection()).execute(HOLD_ENDING)
        assert (await client.delete(f"{ENGAGEMENTS}/{before}", headers=bearer(ALICE))).status_code == 204
        erasure_id = await begin(client, ALICE)
    ((told,),) = await run(database, "SELECT payload->'engagements' FROM outbox WHERE topic = 'accounts'")
    assert told == [alone, before]

    async def leaves_the_outbox() -> bool:
        await run(database, "DELETE FROM outbox")
        return await state(client, ALICE, erasure_id) == "done"

    assert await within(PATIENCE, leaves_the_outbox, 0.2)
    for secret in ("secret one", "secret two"):
        assert await holding(database, secret) == []
    assert await holding(database, "secret name") == []
    assert set(await holding(database, "for all")) == {"tasks", "completions"}
    assert (await client.get(f"{TASKS}?engagement_id={shared}", headers=bearer(BOB))).json()["items"] != []
