"""The stream of an engagement's changes, over real sockets: for its members, as long as they are."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from chassis.event_source import EventSource, StreamRefusedError, event_source
from chassis.testing import PATIENCE, bearer, listening, settings_for
from task_api.app import create_app
from task_api.settings import TaskApiSettings

TASKS, ENGAGEMENTS = "/api/v1/tasks", "/api/v1/engagements"
ALICE, BOB, CAROL = (bearer(name) for name in ("alice", "bob", "carol"))


@dataclass
class Replica:
    """A task-api that listens on a port, and a client of it."""

    http: httpx2.AsyncClient

    def stream(
        self, engagement_id: int, headers: dict[str, str], *, last_event_id: str | None = None
    ) -> AbstractAsyncContextManager[EventSource]:
        query = {"engagement_id": str(engagement_id)}
        return event_source(self.http, f"{TASKS}/stream", headers, last_event_id=last_event_id, query=query)

    async def shared(self) -> int:
        """Make an engagement of alice's with bob as editor."""
        made: int = (await self.http.post(ENGAGEMENTS, json={"name": "x"}, headers=ALICE)).json()["id"]
        invited = await self.http.post(f"{ENGAGEMENTS}/{made}/invitations", json={"role": "editor"}, headers=ALICE)
        token = {"token": invited.json()["token"]}
        joined = await self.http.post(f"{ENGAGEMENTS}/invitations/accept", json=token, headers=BOB)
        assert joined.status_code == 200
        return made

    async def create(self, engagement_id: int | None) -> int:
        body = {"title": "x", "engagement_id": engagement_id}
        created: int = (await self.http.post(TASKS, json=body, headers=ALICE)).json()["id"]
        return created

    async def remove_bob(self, engagement_id: int) -> None:
        removed = await self.http.delete(f"{ENGAGEMENTS}/{engagement_id}/members/bob", headers=ALICE)
        assert removed.status_code == 204


Replicas = Callable[..., AbstractAsyncContextManager[Replica]]


@pytest.fixture
def replica(database_url: str) -> Replicas:
    """Runs a replica with some settings of its own."""

    @asynccontextmanager
    async def running(**more: object) -> AsyncIterator[Replica]:
        app = create_app(settings_for(TaskApiSettings, database_url, **more))
        async with (
            app.router.lifespan_context(app),
            listening(app) as url,
            httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http,
        ):
            yield Replica(http)
            app.state.live_feed.end_streams()

    return running


async def test_members_hear_of_the_engagement_and_of_nothing_else(replica: Replicas) -> None:
    async with replica() as here:
        one = await here.shared()
        async with here.stream(one, BOB) as stream:
            await here.create(None)
            task = await here.create(one)
            heard = await stream.next()
            assert heard is not None
            assert (heard["id"], heard["task"]["engagement_id"]) == (task, one)
        later = await here.create(one)
        async with here.stream(one, BOB, last_event_id=stream.last_event_id) as stream:
            assert ((await stream.next()) or {})["id"] == later
        with pytest.raises(StreamRefusedError) as refused:
            async with here.stream(one, CAROL):
                pass
        assert (refused.value.status, refused.value.problem["code"]) == (403, "engagement_forbidden")
        with pytest.raises(StreamRefusedError) as foreign:
            async with here.stream(await here.shared(), BOB, last_event_id=stream.last_event_id):
                pass
        assert (foreign.value.status, foreign.value.problem["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize("silent", [True, False], ids=["silence", "another change"])
async def test_the_stream_of_a_removed_member_says_why_and_ends(replica: Replicas, silent: bool) -> None:
    # Of a silent one the next heartbeat is the end; where something happens, that is.
    async with replica(stream_heartbeat=0.5 if silent else 300) as here:
        one = await here.shared()
        async with here.stream(one, BOB) as bobs, here.stream(one, ALICE) as alices:
            await here.remove_bob(one)
            if not silent:
                task = await here.create(one)
                assert ((await alices.next()) or {})["id"] == task
            assert await bobs.next() == {
                "code": "engagement_forbidden", "detail": f"You are not a member of engagement {one}.",
            }  # fmt: skip
            assert await bobs.next() is None


async def test_the_stream_of_a_deleted_engagement_ends(replica: Replicas) -> None:
    async with replica(stream_heartbeat=0.5) as here:
        one = await here.shared()
        await here.create(one)
        async with here.stream(one, BOB) as stream:
            assert (await here.http.delete(f"{ENGAGEMENTS}/{one}", headers=ALICE)).status_code == 204
            assert ((await stream.next()) or {})["code"] == "engagement_not_found"
            assert await stream.next() is None
