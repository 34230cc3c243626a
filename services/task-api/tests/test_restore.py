"""A deleted task comes back as it was."""

import httpx2
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")


async def test_a_restored_task_is_what_it_was_but_for_its_version(
    client: httpx2.AsyncClient, database: Database
) -> None:
    path = f"{TASKS}/{(await client.post(TASKS, json={'title': 'Buy milk'}, headers=ALICE)).json()['id']}"
    before = (await client.post(f"{path}/complete", headers=ALICE)).json()
    await client.delete(path, headers=ALICE)
    restored = await client.post(f"{path}/restore", headers=ALICE)
    assert restored.status_code == 200
    assert restored.json() == before | {"version": 4, "updated_at": restored.json()["updated_at"]}
    assert (await client.get(path, headers=ALICE)).json() == restored.json()
    assert (await client.get(TASKS, headers=ALICE)).json()["items"] == [restored.json()]
    async with database.session() as session:
        events = (await session.exec(select(OutboxEvent).order_by("id"))).all()
    assert [event.type for event in events][2:] == ["task.deleted", "task.restored"]
    assert set(events[-1].payload["changes"]) == {"deleted_at"}


async def test_restoring_again_or_what_was_never_deleted_changes_nothing(
    client: httpx2.AsyncClient, database: Database
) -> None:
    path = f"{TASKS}/{(await client.post(TASKS, json={'title': 'Buy milk'}, headers=ALICE)).json()['id']}"
    assert (await client.post(f"{path}/restore", headers=ALICE)).json()["version"] == 1
    await client.delete(path, headers=ALICE)
    first, again = [await client.post(f"{path}/restore", headers=ALICE) for _ in range(2)]
    assert (first.json(), first.status_code) == (again.json(), 200)
    async with database.session() as session:
        assert len((await session.exec(select(OutboxEvent))).all()) == 3


async def test_only_the_owner_restores_and_a_deleted_task_is_gone_for_everything_else(
    client: httpx2.AsyncClient,
) -> None:
    path = f"{TASKS}/{(await client.post(TASKS, json={'title': 'Buy milk'}, headers=ALICE)).json()['id']}"
    await client.delete(path, headers=ALICE)
    refused = await client.post(f"{path}/restore", headers=BOB)
    assert (refused.status_code, refused.json()["code"]) == (403, "task_forbidden")
    for action in ("toggle", "complete", "reopen"):
        assert (await client.post(f"{path}/{action}", headers=ALICE)).status_code == 404
    assert (await client.post(f"{TASKS}/987654/restore", headers=ALICE)).status_code == 404
