"""task-api in process, on a real PostgreSQL with a database for each test; its sidecar is not there."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, event

from chassis.database import Database, open_database
from chassis.migrations import upgrade
from chassis.testing import bearer, serving, settings_for, take_all_the_time_there_is
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No delivery, erasure or check ends because the machine is slow."""
    take_all_the_time_there_is(monkeypatch)


@pytest.fixture
async def database_url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        yield url


@pytest.fixture
def settings(database_url: str) -> TaskApiSettings:
    return settings_for(TaskApiSettings, database_url)


@pytest.fixture
def production() -> dict[str, Any]:
    """All that is wanted outside development, and good; a test takes away or spoils what it is about."""
    return {
        "environment": "production",
        "auth_hs256_secret": None,
        "auth_jwks_url": "https://id.example.com/k",
        "cursor_secret": secrets.token_urlsafe(32),
        "erasure_secret": secrets.token_urlsafe(32),
        "api_key_peppers": f"first:{secrets.token_urlsafe(32)}",
        "encryption_keys": f"first:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "DAPR_API_TOKEN": secrets.token_urlsafe(32),
        "APP_API_TOKEN": secrets.token_urlsafe(33),
        "database_url": f"postgresql://it:{secrets.token_urlsafe(24)}@db.example/it",
    }


@pytest.fixture
async def database(settings: TaskApiSettings) -> AsyncIterator[Database]:
    database = open_database(settings, application_name="test")
    yield database
    await database.close()


@pytest.fixture
def app(settings: TaskApiSettings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(app) as client:
        yield client


@pytest.fixture
def engagement(client: httpx2.AsyncClient) -> Callable[..., Awaitable[int]]:
    """Makes an engagement of alice's, with members of such roles: `await engagement(bob="editor")`."""

    async def make(**members: str) -> int:
        alice, path = bearer("alice"), "/api/v1/engagements"
        engagement_id: int = (await client.post(path, json={"name": "Kitchen"}, headers=alice)).json()["id"]
        for name, role in members.items():
            invited = f"{path}/{engagement_id}/invitations"
            issued = (await client.post(invited, json={"role": role}, headers=alice)).json()
            taken = {"token": issued["token"]}
            joined = await client.post(f"{path}/invitations/accept", json=taken, headers=bearer(name))
            assert joined.status_code == 200, joined.text
        return engagement_id

    return make


@pytest.fixture
def sent_statements(app: FastAPI) -> Callable[[], AbstractContextManager[list[str]]]:
    """Collects the first words of what requests send to PostgreSQL: one for each round trip, none of the background."""

    @contextmanager
    def collecting() -> Iterator[list[str]]:
        sent: list[str] = []

        def note(connection: Connection, cursor: object, statement: str, *_: object) -> None:
            task = asyncio.current_task()
            in_background = task is not None and not task.get_name().startswith("Task-")  # what is there has a name
            # Who was erased a replica reads for all its requests; the very first one may be quicker than that.
            if not in_background and statement.split()[:2] != ["SELECT", "subject_digest"]:
                sent.append(statement.split(maxsplit=1)[0])

        engine = app.state.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(engine, "before_cursor_execute", note)

    return collecting
