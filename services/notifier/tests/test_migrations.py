"""The schema: up, down and up again on data, and the same as the models say."""

import asyncio

import asyncpg
import httpx2

from chassis.migrations import downgrade, upgrade
from chassis.schema_comparison import schema_differences
from chassis.testing import bearer, deliver, make_task_event, post_dead_letter, serving, settings_for
from devstack.throwaway import DatabaseFactory
from notifier.app import create_app
from notifier.models import Model
from notifier.settings import NotifierSettings


async def notified(client: httpx2.AsyncClient) -> list[int]:
    assert await deliver(client, make_task_event(1), make_task_event(2)) == ["SUCCESS"] * 2
    response = await client.get("/api/v1/notifications", headers=bearer("alice"))
    return [item["task_id"] for item in response.json()["items"]]


async def test_the_schema_goes_up_down_and_up_again_on_data(databases: DatabaseFactory) -> None:
    async with databases.empty("notifier") as url:
        await asyncio.to_thread(upgrade, "notifier", url)
        async with serving(create_app(settings_for(NotifierSettings, url))) as client:
            assert (await client.get("/health/ready")).status_code == 200
            assert await notified(client) == [2, 1]
        await asyncio.to_thread(downgrade, "notifier", url, "base")
        assert await leftovers(url) == ["alembic_version"]
        async with serving(create_app(settings_for(NotifierSettings, url))) as client:
            assert (await client.get("/health/ready")).status_code == 503
            await asyncio.to_thread(upgrade, "notifier", url)
            await asyncio.to_thread(upgrade, "notifier", url)
            assert (await client.get("/health/ready")).status_code == 200
            assert await notified(client) == [2, 1]


async def test_dead_letters_go_and_come_back_beside_data_that_stay(databases: DatabaseFactory) -> None:
    async with databases.empty("notifier") as url:
        await asyncio.to_thread(upgrade, "notifier", url)
        async with serving(create_app(settings_for(NotifierSettings, url))) as client:
            assert await notified(client) == [2, 1]
            assert (await post_dead_letter(client, b"poison")).json() == {"status": "SUCCESS"}
            await asyncio.to_thread(downgrade, "notifier", url, "0002")
            assert (await post_dead_letter(client, b"poison")).json() == {"status": "RETRY"}
            await asyncio.to_thread(upgrade, "notifier", url)
            assert (await post_dead_letter(client, b"poison")).json() == {"status": "SUCCESS"}
            letters = (await client.get("/api/v1/dead-letters", headers=bearer("olga", "admin"))).json()["items"]
            assert [letter["size_bytes"] for letter in letters] == [6]
            kept = (await client.get("/api/v1/notifications", headers=bearer("alice"))).json()["items"]
            assert [item["task_id"] for item in kept] == [2, 1]


async def test_gaps_that_were_there_before_their_table_are_found_when_it_comes(databases: DatabaseFactory) -> None:
    async with databases.empty("notifier") as url:
        await asyncio.to_thread(upgrade, "notifier", url)
        async with serving(create_app(settings_for(NotifierSettings, url))) as client:
            # Task 1 lacks 2 and 3, and 5; 8 came twice; task 2 lacks nothing, though it came in another order.
            for task, version in ((1, 1), (1, 4), (1, 6), (1, 7), (1, 8), (1, 8), (2, 2), (2, 1), (3, 3)):
                await deliver(client, make_task_event(task, version))
        wanted = await open_gaps(url)
        assert wanted == [("1", 2, 3), ("1", 5, 5), ("3", 1, 2)]
        await asyncio.to_thread(downgrade, "notifier", url, "0001")
        await asyncio.to_thread(upgrade, "notifier", url)
        assert await open_gaps(url) == wanted


async def open_gaps(url: str) -> list[tuple[str, int, int]]:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        rows = await connection.fetch(
            "SELECT subject, from_version, to_version FROM inbox_gaps WHERE closed_at IS NULL ORDER BY 1, 2"
        )
    finally:
        await connection.close()
    return [(row[0], row[1], row[2]) for row in rows]


async def leftovers(url: str) -> list[str]:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        rows = await connection.fetch(
            "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
            "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        )
    finally:
        await connection.close()
    return [row["name"] for row in rows]


async def test_the_migrated_schema_is_what_the_models_say(database_url: str) -> None:
    assert await schema_differences(database_url, Model.metadata) == []
