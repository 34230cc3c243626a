"""A sidecar that does not do its work, on real sockets, and what the breaker of `dapr-publish` does.

What a real daprd does is in `tests/e2e/test_breakers.py`.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import override

from chassis.publisher import DaprPublisher, PublishError, RefusedError
from chassis.testing import make_task_event
from devstack.polling import within

PATIENCE = 90.0


@contextmanager
def listener(*, accepts: bool) -> Iterator[socket.socket]:
    """A port of which connections are refused, or taken (by the kernel) and never answered."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if accepts:
            held.listen()
        yield held


class Healthy(BaseHTTPRequestHandler):
    """Says that the sidecar is well."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    @override
    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def healthy_port() -> Iterator[int]:
    """In a thread: the SDK's client asks once more with a call that blocks the loop."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def scraped(metric: str, **labels: str) -> float:
    wanted = {"call": "dapr-publish"} | labels
    return sum(
        sample.value
        for family in text_string_to_metric_families(generate_latest(REGISTRY).decode())
        for sample in family.samples
        if sample.name == metric and wanted.items() <= sample.labels.items()
    )


def state() -> float:
    return scraped("taskwire_breaker_state")


def calls(outcome: str) -> float:
    return scraped("taskwire_outbound_calls_total", outcome=outcome)


async def fails(publisher: DaprPublisher) -> None:
    with pytest.raises(PublishError) as failure:
        await publisher.publish([make_task_event().encode()])
    assert not isinstance(failure.value, RefusedError), "nothing is known of what became of the events"


async def sees_the_breaker_open_refuse_and_try(publisher: DaprPublisher, outcome: str) -> None:
    before, refused = calls(outcome), calls("refused")
    for failures in range(3):
        assert (state(), publisher.open_for) == (0, 0), f"open after {failures} failures"
        await fails(publisher)
    assert calls(outcome) == before + 3, "one try for each call"
    assert state() > 0

    async def is_refused() -> bool:
        """Open for two seconds at a time, so a slow machine may need several calls to meet it open."""
        was_open = publisher.open_for > 0
        await fails(publisher)
        return was_open and calls("refused") > refused

    assert await within(PATIENCE, is_refused, 0)

    async def is_half_open() -> bool:
        return state() == 1

    assert await within(PATIENCE, is_half_open, 0.01)
    tried = calls(outcome)
    await fails(publisher)
    assert (calls(outcome), state() > 0) == (tried + 1, True), "one trial, and open again"


@pytest.fixture
async def publishers() -> AsyncIterator[list[DaprPublisher]]:
    made: list[DaprPublisher] = []
    yield made
    for publisher in made:
        await publisher.close()


def publisher_to(health: int, grpc: int, timeout: float = 0.5) -> DaprPublisher:
    return DaprPublisher(http_port=health, grpc_port=grpc, api_token="t" * 24, timeout=timeout)


async def test_a_sidecar_that_is_not_there(publishers: list[DaprPublisher]) -> None:
    with listener(accepts=False) as nobody:
        port = nobody.getsockname()[1]
        publishers.append(publisher_to(port, port))
        await sees_the_breaker_open_refuse_and_try(publishers[0], "error")


async def test_a_sidecar_that_says_nothing_of_its_health(publishers: list[DaprPublisher]) -> None:
    with listener(accepts=True) as silent:
        port = silent.getsockname()[1]
        publishers.append(publisher_to(port, port))
        await sees_the_breaker_open_refuse_and_try(publishers[0], "timeout")


async def test_the_question_for_its_health_has_a_timeout_of_its_own(publishers: list[DaprPublisher]) -> None:
    with listener(accepts=True) as silent:
        port = silent.getsockname()[1]
        publishers.append(publisher_to(port, port, timeout=10 * PATIENCE))
        before = calls("timeout")
        async with asyncio.timeout(PATIENCE):
            await fails(publishers[0])
        assert calls("timeout") == before + 1


async def test_a_sidecar_that_is_healthy_and_takes_no_events(
    publishers: list[DaprPublisher], healthy_port: int
) -> None:
    with listener(accepts=True) as silent:
        publishers.append(publisher_to(healthy_port, silent.getsockname()[1]))
        await sees_the_breaker_open_refuse_and_try(publishers[0], "timeout")


async def test_a_sidecar_that_speaks_something_else(publishers: list[DaprPublisher], healthy_port: int) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    try:
        publishers.append(publisher_to(healthy_port, server.sockets[0].getsockname()[1]))
        with pytest.raises(PublishError):
            await publishers[0].publish([make_task_event().encode()])
    finally:
        server.close()
        await server.wait_closed()


async def test_a_relay_that_is_ended_while_the_sidecar_says_nothing_leaves_the_breaker_as_it_was(
    publishers: list[DaprPublisher], healthy_port: int
) -> None:
    with listener(accepts=True) as silent:
        publishers.append(publisher_to(healthy_port, silent.getsockname()[1], timeout=PATIENCE))
        cancelled = calls("cancelled")
        call = asyncio.create_task(publishers[0].publish([make_task_event().encode()]))
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert (state(), calls("cancelled")) == (0, cancelled + 1)
