"""What API keys are hashed with: rotated under keys in use, required in production, told to nobody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from chassis.database import Database
from chassis.testing import PATIENCE, bearer, serving, settings_for
from devstack.polling import within
from task_api.app import create_app
from task_api.settings import TaskApiSettings

KEYS, TASKS = "/api/v1/api-keys", "/api/v1/tasks"
OLD, NEW = "old:" + "o" * 32, "new:" + "n" * 32
Json = dict[str, Any]


async def make_key(client: httpx2.AsyncClient) -> Json:
    made = await client.post(KEYS, json={"name": "x", "scopes": ["tasks:read"]}, headers=bearer("alice"))
    assert made.status_code == 201, made.text
    shown: Json = made.json()
    return shown


async def status_of(client: httpx2.AsyncClient, key: str) -> int:
    return (await client.get(TASKS, headers={"Authorization": f"Bearer {key}"})).status_code


async def value(database: Database, sql: str) -> Any:  # noqa: ANN401
    async with database.session() as session:
        return await (await session.connection()).scalar(text(sql))


async def execute(database: Database, sql: str) -> None:
    async with database.session() as session:
        await (await session.connection()).execute(text(sql))
        await session.commit()


@asynccontextmanager
async def replica(database_url: str, peppers: str) -> AsyncIterator[httpx2.AsyncClient]:
    settings = settings_for(TaskApiSettings, database_url, api_key_peppers=peppers)
    async with serving(create_app(settings)) as client:
        yield client


async def test_a_pepper_is_rotated_under_keys_that_are_in_use(database_url: str, database: Database) -> None:
    async with replica(database_url, OLD) as client:
        used, idle = [(await make_key(client))["key"] for _ in range(2)]
    async with replica(database_url, f"{NEW},{OLD}") as client:
        assert [await status_of(client, key) for key in (used, used, idle)][:2] == [200, 200]
        fresh = f"SELECT pepper_id FROM api_key_secrets WHERE public_id = '{used[3:15]}'"

        async def hashed_anew() -> bool:
            return bool(await value(database, fresh) == "new")

        assert await within(PATIENCE, hashed_anew, 0.1)
        assert await status_of(client, used) == 200
        await execute(database, f"UPDATE api_key_secrets SET pepper_id = 'old' WHERE public_id = '{idle[3:15]}'")
    async with replica(database_url, NEW) as client:
        assert [await status_of(client, key) for key in (used, idle)] == [200, 401]


async def test_replicas_take_each_others_keys_while_a_pepper_is_rotated_as_documented(database_url: str) -> None:
    """First the new pepper is known to all, then it is used: a replica may be restarted before or after another."""
    for one, other in (((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD))):
        async with replica(database_url, ",".join(one)) as early, replica(database_url, ",".join(other)) as late:
            for maker in (early, late):
                key = (await make_key(maker))["key"]
                assert [await status_of(client, key) for client in (early, late)] == [200, 200]


@pytest.mark.parametrize(
    ("peppers", "complaint"),
    [
        (None, "set TASKWIRE_API_KEY_PEPPERS"),
        ("", "id:secret pairs"),
        ("Q7-vXb9LcKd2" * 9, "id:secret pairs"),
        ("Upper:" + "Q7-vXb9LcKd2" * 9, "id:secret pairs"),
        (f"a:{'Q7-vXb9LcKd2' * 9},a:{'t' * 32}", "number 2 is none"),
        ("a:Q7-vXb9LcKd2", "at least 32 bytes, number 1 has less"),
    ],
)
def test_in_production_peppers_must_be_set_and_strong_and_are_in_no_message(
    production: Json, peppers: str | None, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        settings_for(TaskApiSettings, **production | {"api_key_peppers": peppers})
    assert "Q7-vXb9LcKd2" not in str(refusal.value)
    good = settings_for(TaskApiSettings, **production | {"api_key_peppers": f"a:{'Q7-vXb9LcKd2' * 9}"})
    assert "Q7-vXb9LcKd2" not in repr(good) + repr(good.peppers)
