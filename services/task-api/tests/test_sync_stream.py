"""The stream of changes, over real sockets and on a real PostgreSQL."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy.pool import QueuePool

from chassis.database import Database
from chassis.event_source import EventSource, StreamRefusedError, event_source
from chassis.testing import PATIENCE, bearer, listening, make_token, scrape, settings_for
from devstack.polling import within
from task_api.app import create_app
from task_api.settings import TaskApiSettings
from task_api.sync.live import LiveFeed
from task_api.sync.repository import FeedRepository

TASKS, CHANGES = "/api/v1/tasks", "/api/v1/tasks/changes"
ALICE, BOB = bearer("alice"), bearer("bob")
INSERT = "INSERT INTO tasks (owner_id, title, priority, completed, version, created_at, updated_at)"
NEW = "'alice', title, 'low', false, 1, now(), now()"
Json = dict[str, Any]
Replicas = Callable[..., AbstractAsyncContextManager["Replica"]]


@dataclass
class Replica:
    """A task-api that listens on a port, and a client of it."""

    app: FastAPI
    http: httpx2.AsyncClient

    def stream(
        self,
        headers: dict[str, str] = ALICE,
        *,
        last_event_id: str | None = None,
        query: dict[str, str] | None = None,
    ) -> AbstractAsyncContextManager[EventSource]:
        return event_source(self.http, f"{TASKS}/stream", headers, last_event_id=last_event_id, query=query)

    async def create(self, title: str = "x", headers: dict[str, str] = ALICE) -> Json:
        response = await self.http.post(TASKS, json={"title": title}, headers=headers)
        assert response.status_code == 201, response.text
        task: Json = response.json()
        return task

    async def patch(self, task: Json, title: str) -> Json:
        response = await self.http.patch(f"{TASKS}/{task['id']}", json={"title": title}, headers=ALICE)
        assert response.status_code == 200, response.text
        changed: Json = response.json()
        return changed

    async def delete(self, task: Json) -> None:
        assert (await self.http.delete(f"{TASKS}/{task['id']}", headers=ALICE)).status_code == 204

    async def changes(self, cursor: str | None) -> list[Json]:
        response = await self.http.get(CHANGES, params={"cursor": cursor} if cursor else {}, headers=ALICE)
        items: list[Json] = response.json()["items"]
        return items

    async def has_open(self, streams: int) -> bool:
        async def so_many() -> bool:
            return len(self.app.state.live_feed._subscriptions) == streams

        return await within(PATIENCE, so_many, 0.02)


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
            yield Replica(app, http)
            app.state.live_feed.end_streams()

    return running


async def test_a_change_arrives_with_the_cursor_after_it(replica: Replicas) -> None:
    async with replica() as here, here.stream() as stream:
        begin = stream.last_event_id
        assert stream.retry is not None
        assert 1000 <= stream.retry <= 3000
        assert stream.response.headers["cache-control"] == "no-store"
        task = await here.create()
        created = {"id": task["id"], "version": 1, "deleted_at": None, "task": task}
        assert await stream.next() == created
        first = stream.last_event_id
        await here.create("not hers", BOB)
        await here.delete(task)
        gone = await stream.next()
        assert gone is not None
        assert (gone["id"], gone["version"], gone["task"]) == (task["id"], 2, None)
        assert [item["version"] for item in await here.changes(begin)] == [2]
        assert [item["version"] for item in await here.changes(first)] == [2]
        assert await here.changes(stream.last_event_id) == []


async def test_who_comes_back_with_the_last_event_id_misses_nothing(replica: Replicas) -> None:
    async with replica() as here:
        async with here.stream() as stream:
            pass  # broken off before any event: the id that came first is enough
        missed = [await here.create(f"{number}") for number in range(3)]
        async with here.stream(last_event_id=stream.last_event_id) as stream:
            assert [(await stream.next() or {})["task"] for _ in range(2)] == missed[:2]
        changed = await here.patch(missed[0], "again")
        async with here.stream(last_event_id=stream.last_event_id, query={"cursor": "not looked at"}) as stream:
            assert [(await stream.next() or {})["task"] for _ in range(2)] == [missed[2], changed]
            later = await here.create("later")
            assert (await stream.next() or {})["task"] == later


async def test_a_stream_goes_on_where_the_feed_ended_however_much_there_is_to_catch_up(
    replica: Replicas, database_url: str
) -> None:
    async with replica() as here:
        cursor = (await here.http.get(CHANGES, headers=ALICE)).json()["next_cursor"]
        titles = [f"{number}" for number in range(230)]  # more than two pages
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(f"{INSERT} SELECT {NEW} FROM unnest($1::text[]) AS title", titles)
        finally:
            await connection.close()
        async with here.stream(query={"cursor": cursor}) as stream:
            assert [(await stream.next() or {})["task"]["title"] for _ in titles] == titles


async def test_silence_is_broken_by_heartbeats(replica: Replicas) -> None:
    async with replica(stream_heartbeat=0.1) as here, here.stream() as stream:
        next_one = asyncio.create_task(stream.next())

        async def heard_two() -> bool:
            return len(stream.comments) >= 2

        assert await within(PATIENCE, heard_two, 0.05)
        task = await here.create()
        assert (await next_one or {})["task"] == task
        assert set(stream.comments) == {"heartbeat"}


async def test_what_another_replica_wrote_arrives(replica: Replicas) -> None:
    async with replica() as here, replica() as there, there.stream() as stream:
        for number in range(5):
            task = await here.create(f"{number}")
            assert (await stream.next() or {})["task"] == task
            async with here.stream(last_event_id=stream.last_event_id) as moved:
                await there.create(f"from there {number}")
                assert (await moved.next() or {})["task"]["title"] == f"from there {number}"
            assert (await stream.next() or {})["task"]["title"] == f"from there {number}"


async def test_a_transaction_that_is_held_open_delays_the_stream_and_loses_nothing(
    replica: Replicas, database_url: str
) -> None:
    async with replica(stream_heartbeat=0.1) as here:
        slow = await here.create("slow")
        async with here.stream() as stream:
            connection = await asyncpg.connect(database_url)
            try:
                async with connection.transaction():
                    await connection.execute("UPDATE tasks SET version = 2, title = 'late' WHERE id = $1", slow["id"])
                    task = await here.create("after")
                    next_one = asyncio.create_task(stream.next())
                    await asyncio.sleep(1.5)
                    assert not next_one.done()
            finally:
                await connection.close()
            late = await next_one
            assert late is not None
            assert (late["id"], late["version"]) == (slow["id"], 2)
            assert (await stream.next() or {})["task"] == task


async def test_who_comes_while_a_look_is_under_way_is_told_at_its_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = asyncio.Event(), asyncio.Event()
    changed_owners = FeedRepository.changed_owners

    async def slowly(self: FeedRepository, owner_ids: set[str], *, since: int | None) -> tuple[set[str], int, int]:
        looking.set()
        await go_on.wait()
        return await changed_owners(self, owner_ids, since=since)

    monkeypatch.setattr(FeedRepository, "changed_owners", slowly)
    live = LiveFeed(database, poll_interval=0.1, per_user=1, per_replica=2)
    async with live.running():
        with live.subscribed("alice"):
            await looking.wait()
            with live.subscribed("bob") as late:  # may read before a change that this look will pass by
                go_on.set()
                assert await late.hears(PATIENCE)


async def test_a_user_has_so_many_streams_and_a_place_is_free_again_when_a_client_goes_away(replica: Replicas) -> None:
    async with replica(streams_per_user=2, streams_per_replica=3, stream_heartbeat=0.1) as here:
        async with here.stream(), here.stream():
            with pytest.raises(StreamRefusedError) as refused:
                await here.stream().__aenter__()
            assert (refused.value.status, refused.value.problem["code"]) == (429, "too_many_streams")
            assert "2 streams" in refused.value.problem["detail"]
            async with here.stream(BOB):
                with pytest.raises(StreamRefusedError) as refused:
                    await here.stream(BOB).__aenter__()
                assert (refused.value.status, refused.value.problem["code"]) == (503, "streams_exhausted")
                assert await scrape(here.http, "taskwire_streams_open") == 3
        assert await here.has_open(0)
        async with here.stream(), here.stream():
            assert await here.has_open(2)


async def test_streams_hold_no_connection_to_the_database(replica: Replicas) -> None:
    one = {"database_pool_size": 1, "database_pool_overflow": 0, "stream_heartbeat": 0.1}
    async with replica(**one, streams_per_user=20) as here, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(here.stream()) for _ in range(20)]
        database: Database = here.app.state.database
        pool = database.engine.sync_engine.pool
        assert isinstance(pool, QueuePool)

        async def none_in_use() -> bool:
            return pool.checkedout() == 0

        assert await within(PATIENCE, none_in_use, 0.01)
        task = await here.create()
        assert [(await stream.next() or {})["task"] for stream in streams] == [task] * 20


async def test_a_stream_ends_with_its_token(replica: Replicas) -> None:
    async with replica() as here:
        ends = int(time.time()) + 3
        headers = {"Authorization": f"Bearer {make_token('alice', exp=ends)}"}
        async with here.stream(headers) as stream:
            created = await here.create()
            while (change := await stream.next()) is not None:  # on a slow machine it is over before the change
                assert change["id"] == created["id"]
            assert time.time() >= ends
        assert await here.has_open(0)


async def test_a_stopping_replica_ends_its_streams_in_good_order_and_new_ones_at_once(replica: Replicas) -> None:
    async with replica() as here, here.stream() as stream:
        here.app.state.at_stop[0]()
        assert await stream.next() is None
        task = await here.create()
        async with here.stream(last_event_id=stream.last_event_id) as again:
            assert (await again.next() or {})["task"] == task
            assert await again.next() is None


async def test_a_stream_outlives_an_outage_of_the_database_and_has_no_hole(
    replica: Replicas, database_url: str
) -> None:
    impatient = {"database_lock_timeout": 0.1, "stream_heartbeat": 0.1}
    async with replica(**impatient) as here, here.stream() as stream:
        connection = await asyncpg.connect(database_url)
        try:
            async with connection.transaction():
                await connection.execute(f"{INSERT} SELECT {NEW} FROM (VALUES ('new')) AS new(title)")
                await connection.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")  # nobody can read them now
                next_one = asyncio.create_task(stream.next())

                async def noticed() -> bool:
                    for subscription in here.app.state.live_feed._subscriptions:
                        subscription.tell()
                    return "the database does not answer" in stream.comments

                assert await within(PATIENCE, noticed, 0.1)
                assert not next_one.done()
        finally:
            await connection.close()
        assert (await next_one or {})["task"]["title"] == "new"
        task = await here.create("after it")
        assert (await stream.next() or {})["task"] == task


async def test_a_stream_that_cannot_be_is_refused_before_it_begins(
    replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica() as here:
        async with here.stream(BOB) as stream:
            bobs = stream.last_event_id
        for forged in (
            here.stream(last_event_id=bobs),
            here.stream(last_event_id="x"),
            here.stream(query={"cursor": bobs}),
        ):
            with pytest.raises(StreamRefusedError) as refused:
                await forged.__aenter__()
            assert (refused.value.status, refused.value.problem["code"]) == (422, "invalid_cursor")
        with pytest.raises(StreamRefusedError) as refused:
            await here.stream({}).__aenter__()
        assert refused.value.status == 401
        now = time.time()
        monkeypatch.setattr("task_api.sync.service.time.time", lambda: now + 31 * 86400)
        with pytest.raises(StreamRefusedError) as refused:
            await here.stream(BOB, last_event_id=bobs).__aenter__()
        assert (refused.value.status, refused.value.problem["code"]) == (410, "cursor_expired")
        assert await here.has_open(0)


async def test_a_reader_that_breaks_off_again_and_again_has_in_the_end_what_the_server_has(replica: Replicas) -> None:
    dice = random.Random(7)  # noqa: S311
    copy: dict[int, Json] = {}
    async with replica() as here, replica() as there:
        cursor = (await here.http.get(CHANGES, headers=ALICE)).json()["next_cursor"]

        async def write(number: int) -> None:
            one, other = (here, there) if number % 2 else (there, here)
            for turn in range(8):
                task = await one.create(f"{number} {turn}")
                await other.patch(task, "again")
                if turn % 3 == 0:
                    await one.delete(task)

        async def write_all() -> None:
            await asyncio.gather(*(write(number) for number in range(6)))
            await here.create("the end")

        writing = asyncio.create_task(write_all())
        titles: set[str] = set()
        while "the end" not in titles:
            async with dice.choice([here, there]).stream(last_event_id=cursor) as stream:
                for _ in range(dice.randint(1, 12)):
                    change = await stream.next()
                    assert change is not None
                    if change["task"] is None:
                        copy.pop(change["id"], None)
                    else:
                        copy[change["id"]] = change["task"]
                        titles.add(change["task"]["title"])
                    if "the end" in titles:
                        break
                cursor = stream.last_event_id
        await writing
        listed = await here.http.get(TASKS, params={"limit": 200}, headers=ALICE)
        assert copy == {task["id"]: task for task in listed.json()["items"]}
        assert await here.changes(cursor) == []
