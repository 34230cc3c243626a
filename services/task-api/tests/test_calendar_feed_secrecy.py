"""The token of a feed is in no log, trace, metric or error: the real process, and all that it tells."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import asyncpg
import httpx2
import pytest
from typing_extensions import override

from chassis.testing import PATIENCE, bearer
from chassis.testing_environment import environment_for
from devstack.polling import within
from devstack.service_process import ServiceProcess, running_service

FEEDS = "/api/v1/calendar-feeds"
WAITING = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE NOT granted AND datname = current_database() AND relation = 'calendar_feeds'::regclass
"""


@dataclass
class Traces:
    """What a collector was sent, as bytes: texts are as they are in it."""

    url: str
    received: list[bytes] = field(default_factory=list)


@pytest.fixture
def traces() -> Iterator[Traces]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Traces(f"http://127.0.0.1:{server.server_port}")
    Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
async def service(database_url: str, traces: Traces, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    """`python -m task_api serve` as it is deployed, but telling all that it ever tells."""
    environment = environment_for(
        database_url,
        TASKWIRE_LOG_LEVEL="DEBUG",
        TASKWIRE_SHUTDOWN_GRACE="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=traces.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    async with running_service("task_api", environment, tmp_path / "task-api.log") as running:
        yield running


async def test_the_token_is_in_no_log_no_trace_no_metric_and_no_error(
    service: ServiceProcess, traces: Traces, database_url: str
) -> None:
    async with httpx2.AsyncClient(base_url=service.url, headers=bearer("alice"), timeout=PATIENCE) as http:
        feed = (await http.post(FEEDS, json={})).json()
        revoked = (await http.post(FEEDS, json={})).json()
        await http.delete(f"{FEEDS}/{revoked['id']}")
        await http.post("/api/v1/tasks", json={"title": "Pay rent", "due_at": "2027-01-31T09:00:00Z"})
        path, secrets = feed["path"], [one["token"][12:] for one in (feed, revoked)]
        asked = [
            ("GET", path, 200),
            ("HEAD", path, 200),
            ("GET", revoked["path"], 404),
            ("GET", f"{path}?as=nothing", 422),
            ("POST", path, 405),
            ("DELETE", path, 405),
            ("OPTIONS", path, 204),
            ("GET", path.removesuffix(".ics"), 404),
            ("GET", f"/nowhere/{feed['token']}", 404),
            ("GET", f"/api/v1/tasks?cursor={feed['token']}", 422),
            ("GET", f"/api/v1/tasks/{feed['token']}", 422),
        ]
        for method, address, status in asked:
            answer = await http.request(method, address)
            assert answer.status_code == status, (method, address, answer.text)
            assert not any(secret in answer.text + str(answer.headers) for secret in secrets)
        metrics = (await http.get("/metrics")).text
        assert "calendars/{token}.ics" in metrics
        assert not any(secret in metrics for secret in secrets)

        async def all_traced() -> bool:
            return b"".join(traces.received).count(b"twcal_\xe2\x80\xa6") >= len(asked)

        assert await within(PATIENCE, all_traced, 0.1)

        # One breaks, one is cut off by the end of the service.
        connection = await asyncpg.connect(database_url)
        await connection.execute("ALTER TABLE calendar_feeds RENAME COLUMN token_hint TO gone")
        assert (await http.get(path)).status_code == 500
        await connection.execute("ALTER TABLE calendar_feeds RENAME COLUMN gone TO token_hint")
        async with connection.transaction():
            await connection.execute("LOCK TABLE calendar_feeds")
            waiting = asyncio.create_task(http.get(path))

            async def is_waiting() -> bool:
                return bool(await connection.fetchval(WAITING))

            assert await within(PATIENCE, is_waiting, 0.05)
            service.process.send_signal(signal.SIGTERM)
            assert (await waiting).status_code == 503
        await connection.close()
    async with asyncio.timeout(PATIENCE):
        assert await service.process.wait() == 0
    written, sent = service.log.read_text(), b"".join(traces.received)
    # All of it was told, and none of the secrets with it.
    assert "request cut off" in written
    assert "request failed" in written
    assert "/api/v1/calendars/{token}.ics" in written
    assert b"/nowhere/twcal_" in sent
    for secret in secrets:
        assert secret not in written
        assert secret.encode() not in sent
