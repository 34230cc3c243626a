"""The open streams of somebody who is erased end, wherever they are open."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import httpx2
import pytest

from chassis.event_source import EventSource, event_source
from chassis.testing import PATIENCE, bearer, listening, settings_for
from task_api.app import create_app
from task_api.settings import TaskApiSettings

STREAM, ENGAGEMENTS = "/api/v1/tasks/stream", "/api/v1/engagements"
ALICE, BOB = bearer("alice"), bearer("bob")
END: Final = {
    "code": "account_erased", "detail": "This account is erased, or being erased; it does not come back.",
}  # fmt: skip
Replica = Callable[[], AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def replica(database_url: str) -> Replica:
    """Runs a replica that listens on a port; its streams have no heartbeat that would end them."""

    @asynccontextmanager
    async def running() -> AsyncIterator[httpx2.AsyncClient]:
        app = create_app(settings_for(TaskApiSettings, database_url, stream_heartbeat=300))
        async with (
            app.router.lifespan_context(app),
            listening(app) as url,
            httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http,
        ):
            yield http
            app.state.live_feed.end_streams()

    return running


async def test_all_streams_of_the_erased_say_why_and_end_and_those_of_others_go_on(replica: Replica) -> None:
    async with replica() as here, replica() as there, AsyncExitStack() as streams:
        engagement_id = (await here.post(ENGAGEMENTS, json={"name": "x"}, headers=BOB)).json()["id"]
        invited = f"{ENGAGEMENTS}/{engagement_id}/invitations"
        token = (await here.post(invited, json={"role": "viewer"}, headers=BOB)).json()["token"]
        await here.post(f"{ENGAGEMENTS}/invitations/accept", json={"token": token}, headers=ALICE)

        async def open_stream(http: httpx2.AsyncClient, headers: dict[str, str], **query: str) -> EventSource:
            return await streams.enter_async_context(event_source(http, STREAM, headers, query=query))

        shared = {"engagement_id": str(engagement_id)}
        hers = [await open_stream(at, ALICE, **query) for at in (here, there) for query in ({}, shared)]
        bobs = await open_stream(there, BOB, **shared)
        erased = await here.request("DELETE", "/api/v1/users/me", json={"confirm": "alice"}, headers=ALICE)
        assert erased.status_code == 202
        async with asyncio.timeout(PATIENCE):
            for stream in hers:
                assert await stream.next() == END
                assert await stream.next() is None
        made = await here.post("/api/v1/tasks", json={"title": "x", "engagement_id": engagement_id}, headers=BOB)
        assert ((await bobs.next()) or {})["id"] == made.json()["id"]
