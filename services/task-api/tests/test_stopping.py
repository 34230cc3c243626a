"""SIGTERM to the real process, on a real PostgreSQL: who gets an answer, who is turned away, and how it ends."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import asyncpg
import httpx2
import pytest

from chassis.event_source import event_source
from chassis.testing import PATIENCE, bearer, scrape
from chassis.testing_environment import environment_for
from devstack.polling import within
from devstack.ports import free_port

GRACE = 3
FOR_EVER = "600"
"""Seconds for what is not to end by itself while a test lasts."""
UNHURRIED = """
import runpy
from chassis import server, tracing
{moment} = 90
runpy.run_module("task_api", run_name="__main__", alter_sys=True)
"""
"""The service, with ample time for one of the things that it has a moment for at its end."""

Running = tuple[asyncio.subprocess.Process, str, Path]
Run = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    """Runs `python -m task_api serve`: gives the process, its URL and its log.

    Unless a test says otherwise it has as long as it needs: for its database, and for what it serves at its end.
    """

    @asynccontextmanager
    async def running(moment: str | None = None, **more: str) -> AsyncIterator[Running]:
        port = free_port()
        environment = environment_for(database_url, TASKWIRE_PORT=str(port), TASKWIRE_SHUTDOWN_GRACE=FOR_EVER)
        log = tmp_path / "task-api.log"
        program = ("-m", "task_api") if moment is None else ("-c", UNHURRIED.format(moment=moment))
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *program, "serve", env=environment | more, stdout=output, stderr=output
            )
        url = f"http://127.0.0.1:{port}"

        async def ready() -> bool:
            assert process.returncode is None, log.read_text()
            return await status_of(url) == 200

        try:
            assert await within(PATIENCE, ready, 0.05), log.read_text()
            yield process, url, log
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    return running


async def status_of(url: str) -> int | None:
    """Status of the readiness probe on a connection of its own; None when that is refused."""
    try:
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            return (await http.get(f"{url}/health/ready")).status_code
    except httpx2.ConnectError:
        return None


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(PATIENCE):
        return await process.wait()


async def half_a_request(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends a request but not the end of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    lines = ["POST /api/v1/tasks HTTP/1.1", "Host: x", "Content-Type: application/json", "Content-Length: 17"]
    lines += [f"{name}: {value}" for name, value in bearer("alice").items()]
    writer.write("\r\n".join([*lines, "", '{"title":']).encode())
    await writer.drain()
    return reader, writer


def head_and_body(answer: bytes) -> tuple[str, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode().lower(), json.loads(body)


async def write_until_refused(url: str, outcomes: Counter[str], *, keep_alive: bool) -> None:
    """One request after the other, over one connection or each over its own, until nobody listens any more."""
    limits = httpx2.Limits(max_keepalive_connections=1 if keep_alive else 0)
    async with httpx2.AsyncClient(headers=bearer("alice"), limits=limits, timeout=PATIENCE) as http:
        while True:
            try:
                response = await http.post(f"{url}/api/v1/tasks", json={"title": "x"})
            except httpx2.ConnectError:
                return
            except httpx2.TransportError as error:
                outcomes[f"no answer: {error!r}"] += 1
                return
            outcomes[str(response.status_code)] += 1
            if response.headers.get("connection") == "close":
                outcomes["close"] += 1


async def rows(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM outbox"))
    finally:
        await connection.close()


async def test_under_load_every_request_that_was_sent_is_answered_and_the_process_ends_with_0(
    run: Run, database_url: str
) -> None:
    outcomes: Counter[str] = Counter()
    writers: list[Coroutine[Any, Any, None]]
    async with run("server._FAREWELL") as (process, url, log):
        writers = [write_until_refused(url, outcomes, keep_alive=number % 2 == 0) for number in range(24)]
        tasks = [asyncio.create_task(writer) for writer in writers]
        assert await within(PATIENCE, _at_least(outcomes, 200), 0.02)
        process.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
        assert await ended(process) == 0
        assert set(outcomes) == {"201", "close"}, outcomes
        assert outcomes["close"] >= 12
        assert await rows(database_url) == outcomes["201"]
        assert "Traceback" not in log.read_text()


def _at_least(outcomes: Counter[str], count: int) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def enough() -> bool:
        return outcomes["201"] >= count

    return enough


async def test_during_the_drain_delay_it_is_not_ready_but_serves_and_asks_callers_to_leave(run: Run) -> None:
    async with (
        run(TASKWIRE_DRAIN_DELAY=FOR_EVER) as (process, url, _),
        httpx2.AsyncClient(headers=bearer("alice"), timeout=PATIENCE) as http,
    ):
        before = await http.post(f"{url}/api/v1/tasks", json={"title": "x"})
        assert "connection" not in before.headers
        process.send_signal(signal.SIGTERM)

        async def not_ready() -> bool:
            return await status_of(url) == 503

        assert await within(PATIENCE, not_ready, 0.02)
        async with httpx2.AsyncClient(headers=bearer("alice"), timeout=PATIENCE) as newcomer:
            for client in (http, newcomer):
                response = await client.post(f"{url}/api/v1/tasks", json={"title": "x"})
                assert (response.status_code, response.headers["connection"]) == (201, "close")

            async def nothing_else_is_wrong() -> bool:  # a slow machine may answer a check too late, once
                probe = await newcomer.get(f"{url}/health/ready")
                return bool(probe.json()["checks"] == {"database": "ok", "process": "stopping"})

            assert await within(PATIENCE, nothing_else_is_wrong, 0.1)
            assert (await newcomer.get(f"{url}/health/live")).status_code == 200
        process.send_signal(signal.SIGINT)  # the second signal, if it is Ctrl-C, ends the wait
        assert await ended(process) == 0


async def test_a_body_that_is_being_sent_when_the_end_comes_is_waited_for(run: Run, database_url: str) -> None:
    async with run() as (process, url, _):
        reader, writer = await half_a_request(url)
        process.send_signal(signal.SIGTERM)

        async def refused() -> bool:
            return await status_of(url) is None

        assert await within(PATIENCE, refused, 0.02)
        writer.write(b' "slow"}')
        head, task = head_and_body(await asyncio.wait_for(reader.read(), PATIENCE))
        assert head.startswith("http/1.1 201")
        assert task["title"] == "slow"
        assert await ended(process) == 0
        assert await rows(database_url) == 1
        writer.close()


async def test_a_body_that_never_ends_is_answered_503_when_the_grace_is_over(run: Run) -> None:
    async with run("server._CUT_OFF_TIMEOUT", TASKWIRE_SHUTDOWN_GRACE=str(GRACE)) as (process, url, log):
        reader, writer = await half_a_request(url)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        head, problem = head_and_body(await asyncio.wait_for(reader.read(), PATIENCE))
        assert head.startswith("http/1.1 503")
        assert "connection: close" in head
        assert "retry-after: 1" in head
        assert "application/problem+json" in head
        assert problem["code"] == "stopping"
        assert await ended(process) == 0
        assert time.monotonic() - began >= GRACE
        assert "request cut off" in log.read_text()
        writer.close()


async def test_an_idle_connection_is_closed_and_does_not_hold_up_the_end(run: Run) -> None:
    async with run() as (process, url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(reader.read(), PATIENCE)
        assert await ended(process) == 0
        writer.close()


async def test_a_request_that_waits_for_a_row_is_finished_and_what_it_wrote_is_there(
    run: Run, database_url: str
) -> None:
    async with (
        run() as (process, url, _),
        httpx2.AsyncClient(headers=bearer("alice"), timeout=2 * PATIENCE) as http,
    ):
        task = (await http.post(f"{url}/api/v1/tasks", json={"title": "x"})).json()
        holder = await asyncpg.connect(database_url)
        try:
            async with holder.transaction():
                await holder.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task["id"])
                change = asyncio.create_task(http.patch(f"{url}/api/v1/tasks/{task['id']}", json={"title": "y"}))

                async def waiting() -> bool:
                    return bool(await holder.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

                assert await within(PATIENCE, waiting, 0.02)
                process.send_signal(signal.SIGTERM)

                async def refused() -> bool:
                    return await status_of(url) is None

                assert await within(PATIENCE, refused, 0.02)
            response = await change
        finally:
            await holder.close()
        assert (response.status_code, response.json()["version"]) == (200, 2)
        assert await ended(process) == 0
        assert await rows(database_url) == 2


@pytest.mark.parametrize("answering", [True, False])
async def test_the_last_spans_are_sent_and_a_collector_that_hangs_does_not_hold_up_the_end(
    run: Run, answering: bool
) -> None:
    received: list[str] = []
    is_over = Event()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.path)
            if not answering:
                is_over.wait()
            self.send_response(200)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.daemon_threads = True
    server.block_on_close = False
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        async with run(
            moment="tracing._LAST_SPANS_TIMEOUT" if answering else None,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
            OTEL_BSP_SCHEDULE_DELAY="600000",  # only the end sends them
            OTEL_EXPORTER_OTLP_TIMEOUT=FOR_EVER,
        ) as (process, url, _):
            async with httpx2.AsyncClient(headers=bearer("alice"), timeout=PATIENCE) as http:
                await http.post(f"{url}/api/v1/tasks", json={"title": "x"})
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0
        assert received or not answering
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()


async def test_open_streams_end_in_good_order_and_do_not_hold_up_the_end(run: Run) -> None:
    async with run() as (process, url, log):
        async with (
            httpx2.AsyncClient(headers=bearer("alice"), timeout=PATIENCE) as http,
            event_source(http, f"{url}/api/v1/tasks/stream", {}) as stream,
        ):
            task = (await http.post(f"{url}/api/v1/tasks", json={"title": "x"})).json()
            assert (await stream.next() or {})["task"] == task
            process.send_signal(signal.SIGTERM)
            assert await stream.next() is None  # the end of the answer, not a broken connection
        assert await ended(process) == 0
        assert "cut off" not in log.read_text()
        assert "Traceback" not in log.read_text()


async def test_a_reader_that_takes_nothing_is_disconnected_and_others_go_on(run: Run) -> None:
    async with (
        run(TASKWIRE_SEND_TIMEOUT="1", TASKWIRE_STREAM_HEARTBEAT="0.2") as (process, url, log),
        httpx2.AsyncClient(base_url=url, headers=bearer("alice"), timeout=PATIENCE) as http,
        event_source(http, "/api/v1/tasks/stream", {}) as other,
    ):
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        lines = ["GET /api/v1/tasks/stream HTTP/1.1", "Host: x"]
        lines += [f"{name}: {value}" for name, value in bearer("alice").items()]
        stalled.sendall("\r\n".join([*lines, "", ""]).encode())

        async def open_streams() -> float:
            return await scrape(http, "taskwire_streams_open")

        async def both_open() -> bool:
            return await open_streams() == 2

        async def one_open() -> bool:
            await http.post("/api/v1/tasks", json={"title": "x", "description": "y" * 10_000})
            assert await other.next() is not None
            return await open_streams() == 1

        assert await within(PATIENCE, both_open, 0.05)
        assert await within(PATIENCE, one_open, 0.0)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        assert "Traceback" not in log.read_text()
        stalled.close()
