"""Who is told of what happens in an engagement: all members but the one who did it, each once."""

import asyncio
from typing import Final

import asyncpg
import httpx2
import pytest

from chassis.migrations import downgrade, upgrade
from chassis.testing import bearer, deliver, deliver_bulk, make_task_event, serving, settings_for
from devstack.throwaway import DatabaseFactory
from notifier.app import create_app
from notifier.settings import NotifierSettings
from task_events import TaskEvent

MEMBERS: Final = ("alice", "bob", "carol")


def shared(version: int = 1, *, by: str = "bob", recipients: tuple[str, ...] = MEMBERS) -> TaskEvent:
    return make_task_event(7, version, actor_id=by, owner_id="engagement:5", engagement_id=5, recipients=recipients)


async def told(client: httpx2.AsyncClient, user: str) -> list[str]:
    answer = await client.get("/api/v1/notifications?limit=200", headers=bearer(user))
    return [item["event_id"] for item in reversed(answer.json()["items"])]


async def test_all_members_are_told_but_the_one_who_did_it(client: httpx2.AsyncClient) -> None:
    event = shared()
    assert await deliver(client, event) == ["SUCCESS"]
    assert {user: await told(client, user) for user in (*MEMBERS, "dave")} == {
        "alice": [event.id], "bob": [], "carol": [event.id], "dave": [],
    }  # fmt: skip


async def test_a_change_is_told_to_those_who_were_members_then(client: httpx2.AsyncClient) -> None:
    events = [shared(1), shared(2, recipients=("alice", "bob")), shared(3, by="alice", recipients=("alice",))]
    assert set(await deliver_bulk(client, *events)) == {"SUCCESS"}
    assert await told(client, "alice") == [events[0].id, events[1].id]
    assert await told(client, "carol") == [events[0].id]
    assert await told(client, "bob") == []


async def test_duplicates_and_latecomers_tell_everybody_once(client: httpx2.AsyncClient) -> None:
    first, second = shared(1), shared(2)
    assert set(await deliver(client, second, first, second, first)) == {"SUCCESS"}
    assert set(await deliver_bulk(client, first, second)) == {"SUCCESS"}
    for user in ("alice", "carol"):
        assert sorted(await told(client, user)) == sorted([first.id, second.id])


async def test_a_name_that_is_there_twice_is_told_once(client: httpx2.AsyncClient) -> None:
    assert await deliver(client, shared(recipients=("alice", "alice"))) == ["SUCCESS"]
    assert len(await told(client, "alice")) == 1


async def test_the_owner_of_a_personal_task_is_told_of_own_changes_as_before(client: httpx2.AsyncClient) -> None:
    event = make_task_event(8, 1, actor_id="alice")
    assert await deliver(client, event) == ["SUCCESS"]
    assert await told(client, "alice") == [event.id]


async def test_the_schema_goes_down_and_up_again_with_several_told_of_one_event(databases: DatabaseFactory) -> None:
    async with databases.fresh("notifier", lambda url: upgrade("notifier", url)) as url:
        async with serving(create_app(settings_for(NotifierSettings, url))) as client:
            event = shared()
            assert await deliver(client, event) == ["SUCCESS"]
        await asyncio.to_thread(downgrade, "notifier", url, "0003")
        connection = await asyncpg.connect(url)
        columns = "owner_id, event_id, task_id, type, title, occurred_at"
        add = f"INSERT INTO notifications ({columns}) VALUES ($1, $2, 1, 'x', 'x', now())"
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(add, "dave", event.id)
        await asyncio.to_thread(upgrade, "notifier", url)
        await connection.execute(add, "dave", event.id)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(add, "dave", event.id)
        assert await connection.fetchval("SELECT count(*) FROM notifications") == 2
        await connection.close()
