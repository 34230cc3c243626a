"""How an engagement ends, and what becomes of it when somebody's account does."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from chassis.database import Database
from chassis.testing import PATIENCE, bearer, serving
from devstack.polling import within
from task_api.app import create_app
from task_api.engagements import ending
from task_api.engagements.service import Ending, EngagementService
from task_api.settings import TaskApiSettings

TASKS, ENGAGEMENTS = "/api/v1/tasks", "/api/v1/engagements"
ALICE, BOB = bearer("alice"), bearer("bob")
MakeEngagement = Callable[..., Awaitable[int]]


async def query(database: Database, statement: str) -> list[Any]:
    async with database.session() as session:
        return list((await (await session.connection()).execute(text(statement))).all())


async def fill(client: httpx2.AsyncClient, engagement_id: int, count: int) -> None:
    operations = [{"op": "create", "task": {"title": "x", "engagement_id": engagement_id}} for _ in range(count)]
    answer = await client.post(f"{TASKS}/bulk", json={"operations": operations}, headers=ALICE)
    assert answer.json()["failed"] == 0


async def ended(database: Database, engagement_id: int) -> bool:
    statement = f"SELECT ended_at, deleted_by, last_members FROM engagements WHERE id = {engagement_id}"
    return await within(PATIENCE, lambda: _is_over(database, statement), 0.05)


async def _is_over(database: Database, statement: str) -> bool:
    ((ended_at, deleted_by, members),) = await query(database, statement)
    return ended_at is not None and deleted_by is None and members is None


async def test_a_deleted_engagement_is_nobodys_at_once_and_its_tasks_are_deleted_with_events(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_BATCH", 4)
    one = await engagement(bob="editor")
    await fill(client, one, 10)
    personal = (await client.post(TASKS, json={"title": "x"}, headers=ALICE)).json()["id"]
    headers = ALICE | {"X-Correlation-ID": "goodbye"}
    assert (await client.delete(f"{ENGAGEMENTS}/{one}", headers=headers)).status_code == 204
    assert (await client.delete(f"{ENGAGEMENTS}/{one}", headers=ALICE)).status_code == 404
    assert (await client.get(f"{TASKS}?engagement_id={one}", headers=BOB)).status_code == 404
    assert (await client.get(ENGAGEMENTS, headers=BOB)).json()["items"] == []
    assert await ended(database, one)
    told = await query(database, "SELECT payload, aggregate_id FROM outbox WHERE type = 'task.deleted'")
    assert len(told) == len({task_id for _, task_id in told}) == 10
    for payload, _ in told:
        assert (payload["actor"]["id"], payload["corr_id"]) == ("alice", "goodbye")
        assert payload["recipients"] == ["alice", "bob"]
        assert payload["changes"]["deleted_at"]["new"] == payload["task"]["deleted_at"]
    assert (await client.get(f"{TASKS}/{personal}", headers=ALICE)).status_code == 200


async def test_what_a_replica_that_died_left_behind_another_goes_on_with(
    app: FastAPI, settings: TaskApiSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_BATCH", 3)
    batches = 0
    one_batch = ending.EngagementEnding._batch

    async def dies_after_one(self: ending.EngagementEnding) -> int | None:
        nonlocal batches
        batches += 1
        if batches > 1:
            raise RuntimeError("gone")
        return await one_batch(self)

    async with serving(app) as client:
        one = (await client.post(ENGAGEMENTS, json={"name": "x"}, headers=ALICE)).json()["id"]
        await fill(client, one, 8)
        monkeypatch.setattr(ending.EngagementEnding, "_batch", dies_after_one)
        assert (await client.delete(f"{ENGAGEMENTS}/{one}", headers=ALICE)).status_code == 204

        async def one_batch_is_done() -> bool:
            return len(await query(database, "SELECT 1 FROM tasks WHERE deleted_at IS NOT NULL")) == 3

        assert await within(PATIENCE, one_batch_is_done, 0.05)
    monkeypatch.setattr(ending.EngagementEnding, "_batch", one_batch)
    async with serving(create_app(settings)):
        assert await ended(database, one)
    assert await query(database, "SELECT 1 FROM tasks WHERE deleted_at IS NULL") == []
    assert len(await query(database, "SELECT 1 FROM outbox WHERE type = 'task.deleted'")) == 8


async def forget(database: Database, user_id: str) -> int:
    async with database.session() as session:
        forgotten = await EngagementService(Ending()).forget_user(session, user_id)
        await session.commit()
        return forgotten


async def roles(database: Database, engagement_id: int) -> dict[str, str]:
    rows = await query(database, f"SELECT user_id, role FROM engagement_members WHERE engagement_id = {engagement_id}")
    return dict(map(tuple, rows))


@pytest.mark.parametrize(
    ("members", "left"),
    [
        ({"bob": "owner", "carol": "editor"}, {"bob": "owner", "carol": "editor"}),
        ({"bob": "viewer", "carol": "editor", "dave": "editor"}, {"bob": "viewer", "carol": "owner", "dave": "editor"}),
        ({"bob": "viewer", "carol": "viewer"}, {"bob": "owner", "carol": "viewer"}),
    ],
)
async def test_when_an_account_ends_somebody_else_is_owner(
    client: httpx2.AsyncClient,
    engagement: MakeEngagement,
    database: Database,
    members: dict[str, str],
    left: dict[str, str],
) -> None:
    one = await engagement(**members)
    await fill(client, one, 2)
    assert await forget(database, "alice") == 1
    assert await forget(database, "alice") == 0
    assert await roles(database, one) == left
    heir = next(name for name, role in left.items() if role == "owner")
    assert len((await client.get(f"{TASKS}?engagement_id={one}", headers=bearer(heir))).json()["items"]) == 2


async def test_when_the_account_of_the_last_member_ends_the_engagement_does(
    client: httpx2.AsyncClient, app: FastAPI, engagement: MakeEngagement, database: Database
) -> None:
    one, other = await engagement(), await engagement(bob="editor")
    await fill(client, one, 2)
    invited = f"{ENGAGEMENTS}/{other}/invitations"
    await client.post(invited, json={"role": "viewer", "subject": "alice"}, headers=ALICE)
    assert await forget(database, "alice") == 2
    app.state.engagement_service.forgotten()
    assert await ended(database, one)
    assert (
        await query(database, f"SELECT 1 FROM tasks WHERE owner_id = 'engagement:{one}' AND deleted_at IS NULL") == []
    )
    assert await roles(database, other) == {"bob": "owner"}
    for table, column in (
        ("engagement_members", "user_id"), ("engagement_invitations", "subject"),
        ("engagement_invitations", "accepted_by"), ("engagements", "deleted_by"),
    ):  # fmt: skip
        assert await query(database, f"SELECT 1 FROM {table} WHERE {column} = 'alice'") == []
