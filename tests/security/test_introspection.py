"""API keys at the consumers: what they may do there, and that task-api tells nobody else what a key is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import pytest
from fastapi import FastAPI
from tests.security.our_services import SECRET, consumer_beside, task_api_beside

from chassis.identity.api_key_text import new_key_text
from chassis.migrations import upgrade
from chassis.paths import INTROSPECTION_PATH
from chassis.testing import bearer, serving, settings_for
from devstack.polling import within
from devstack.throwaway import DatabaseFactory
from notifier.settings import NotifierSettings
from task_api.app import create_app as create_task_api
from task_api.settings import TaskApiSettings

KEYS: Final = "/api/v1/api-keys"
PATIENCE: Final = 90.0
Json = dict[str, Any]


@dataclass
class TaskApi:
    url: str
    client: httpx2.AsyncClient

    async def make_key(self, *scopes: str) -> Json:
        new = {"name": "x", "scopes": scopes}
        made = await self.client.post(KEYS, json=new, headers=bearer("alice", "admin"))
        assert made.status_code == 201, made.text
        key: Json = made.json()
        return key

    async def introspect(self, content: str, secret: str | None = SECRET) -> httpx2.Response:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        return await self.client.post(INTROSPECTION_PATH, content=content, headers=headers)


@pytest.fixture
async def task_api(databases: DatabaseFactory) -> AsyncIterator[TaskApi]:
    async with task_api_beside(databases) as there:
        yield TaskApi(there.address, there.client)


@asynccontextmanager
async def consumer(
    name: str, databases: DatabaseFactory, task_api: TaskApi, secret: str = SECRET
) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    async with consumer_beside(name, databases, task_api.url, secret) as there:
        yield there.app, there.client


async def test_it_says_whose_a_key_is_and_what_it_is_for(task_api: TaskApi) -> None:
    key = await task_api.make_key("tasks:read", "audit:read")
    answer = await task_api.introspect(f"token={key['key']}&token_type_hint=api_key")
    assert answer.json() == {
        "active": True,
        "token_type": "api_key",
        "client_id": key["prefix"][3:],
        "sub": "alice",
        "scope": "audit:read tasks:read",
    }
    assert answer.headers["Cache-Control"] == "no-store"
    await task_api.client.delete(f"{KEYS}/{key['id']}", headers=bearer("alice"))
    for token in (key["key"], new_key_text().text, "no key", bearer("alice")["Authorization"][7:]):
        answer = await task_api.introspect(f"token={token}")
        assert (answer.status_code, answer.json()) == (200, {"active": False})
    for content in ("", "token=", "token=a&token=b", "other=x", "%ff=%ff", "token=a" + "&x=y" * 20):
        answer = await task_api.introspect(content)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_it_answers_to_our_services_alone(task_api: TaskApi) -> None:
    key = await task_api.make_key("tasks:read")
    token = bearer("alice", "admin")["Authorization"][7:]
    for secret in (None, "", SECRET[:-1], SECRET + "x", "\xff", key["key"], token):
        headers = [] if secret is None else [(b"Authorization", f"Bearer {secret}".encode("latin-1"))]
        answer = await task_api.client.post(INTROSPECTION_PATH, data={"token": key["key"]}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), secret
        assert key["key"] not in answer.text
    closed = create_task_api(settings_for(TaskApiSettings))
    async with serving(closed) as client:
        for secret in ("", "None", SECRET):
            answer = await client.post(INTROSPECTION_PATH, headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == 401, "no secret is set: nobody may"


async def test_guesses_from_where_a_service_is_do_not_keep_it_from_asking(databases: DatabaseFactory) -> None:
    """Nobody's keys would be taken at the consumers as long as somebody at their address guesses."""
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        few = dict.fromkeys(("rate_limit_per_address", "rate_limit_failed_authentications"), 5)
        settings = settings_for(
            TaskApiSettings, url, introspection_secret=SECRET, DAPR_HTTP_PORT=1, DAPR_GRPC_PORT=1, **few
        )
        async with serving(create_task_api(settings)) as client:
            guesses = [await client.get(KEYS, headers={"Authorization": "Bearer guessed"}) for _ in range(10)]
            assert guesses[-1].status_code == 429
            for _ in range(10):
                answer = await TaskApi("", client).introspect(f"token={new_key_text().text}")
                assert (answer.status_code, answer.json()) == (200, {"active": False})


async def test_a_key_that_was_revoked_is_refused_there_a_little_later(
    databases: DatabaseFactory, task_api: TaskApi
) -> None:
    async with consumer("notifier", databases, task_api) as (_, client):
        key = await task_api.make_key("notifications:read")

        async def status() -> int:
            headers = {"Authorization": f"Bearer {key['key']}"}
            return (await client.get("/api/v1/notifications", headers=headers)).status_code

        assert await status() == 200
        await task_api.client.delete(f"{KEYS}/{key['id']}", headers=bearer("alice"))

        async def refused() -> bool:
            return await status() == 401

        assert await within(PATIENCE, refused, 0.2)


async def test_a_consumer_with_another_secret_says_that_it_cannot_tell(
    databases: DatabaseFactory, task_api: TaskApi
) -> None:
    async with consumer("notifier", databases, task_api, "another secret, just as long as it must be") as (_, client):
        key = await task_api.make_key("notifications:read")
        headers = {"Authorization": f"Bearer {key['key']}"}
        answer = await client.get("/api/v1/notifications", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
        assert (await client.get("/api/v1/notifications", headers=bearer("alice"))).status_code == 200


def test_an_address_without_a_secret_or_a_weak_one_is_no_start() -> None:
    with pytest.raises(ValueError, match="set TASKWIRE_INTROSPECTION_SECRET too"):
        settings_for(NotifierSettings, introspection_url="http://127.0.0.1:1/x")
    for settings in (NotifierSettings, TaskApiSettings):
        with pytest.raises(ValueError, match="at least 32 bytes"):
            settings_for(settings, introspection_secret="short")
