"""A sidecar that does not do its work, on real sockets, and what the breaker of `dapr-publish` does.

What a real daprd does is in `tests/e2e/test_breakers.py`.
"""

import asyncio
import select
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typing_extensions import override

from chassis.outages import CLOSED, TIMEOUT, OutageOf
from chassis.publisher import DaprPublisher, PublishError, RefusedError
from chassis.testing import PATIENCE, make_task_event
from devstack.breaker_clock import BreakerClock
from devstack.polling import within


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


async def fails(publisher: DaprPublisher) -> None:
    with pytest.raises(PublishError) as failure:
        await publisher.publish([make_task_event().encode()])
    assert not isinstance(failure.value, RefusedError), "nothing is known of what became of the events"


def outage_of(publisher: DaprPublisher, clock: BreakerClock) -> OutageOf:
    return OutageOf(publisher._call._policy, clock)


async def sees_the_breaker_open_refuse_and_try(publisher: DaprPublisher, clock: BreakerClock, outcome: str) -> None:
    outage = outage_of(publisher, clock)

    async def publish() -> bool:
        await fails(publisher)
        return False

    assert publisher.open_for == 0
    await outage.opens_the_breaker(publish, outcome)
    assert publisher.open_for > 0
    await outage.fails_a_trial(publish, outcome)
    assert publisher.open_for > 0


@pytest.fixture
async def publishers() -> AsyncIterator[list[DaprPublisher]]:
    made: list[DaprPublisher] = []
    yield made
    for publisher in made:
        await publisher.close()


def publisher_to(health: int, grpc: int) -> DaprPublisher:
    return DaprPublisher(http_port=health, grpc_port=grpc, api_token="t" * 24, timeout=PATIENCE)


async def test_a_sidecar_that_is_not_there(
    publishers: list[DaprPublisher], breaker_clock: BreakerClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.publisher._HEALTH_TIMEOUT", PATIENCE)
    with listener(accepts=False) as nobody:
        port = nobody.getsockname()[1]
        publishers.append(publisher_to(port, port))
        await sees_the_breaker_open_refuse_and_try(publishers[0], breaker_clock, "error")


async def test_a_sidecar_that_says_nothing_of_its_health(
    publishers: list[DaprPublisher], breaker_clock: BreakerClock
) -> None:
    with listener(accepts=True) as silent:
        port = silent.getsockname()[1]
        publishers.append(publisher_to(port, port))
        await sees_the_breaker_open_refuse_and_try(publishers[0], breaker_clock, TIMEOUT)


async def test_the_question_for_its_health_has_a_timeout_of_its_own(
    publishers: list[DaprPublisher], breaker_clock: BreakerClock
) -> None:
    with listener(accepts=True) as silent:
        port = silent.getsockname()[1]
        publishers.append(publisher_to(port, port))
        outage = outage_of(publishers[0], breaker_clock)
        before = outage.calls(TIMEOUT)
        async with asyncio.timeout(PATIENCE / 2):  # less than a publish may take
            await fails(publishers[0])
        assert outage.calls(TIMEOUT) == before + 1


async def test_a_sidecar_that_is_healthy_and_takes_no_events(
    publishers: list[DaprPublisher], healthy_port: int, breaker_clock: BreakerClock
) -> None:
    with listener(accepts=True) as silent:
        publishers.append(publisher_to(healthy_port, silent.getsockname()[1]))
        await sees_the_breaker_open_refuse_and_try(publishers[0], breaker_clock, TIMEOUT)


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
    publishers: list[DaprPublisher], healthy_port: int, breaker_clock: BreakerClock
) -> None:
    with listener(accepts=True) as silent:
        publishers.append(publisher_to(healthy_port, silent.getsockname()[1]))
        outage = outage_of(publishers[0], breaker_clock)
        cancelled = outage.calls("cancelled")
        call = asyncio.create_task(publishers[0].publish([make_task_event().encode()]))

        async def is_under_way() -> bool:
            return bool(select.select([silent], [], [], 0)[0])

        assert await within(PATIENCE, is_under_way, 0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert (outage.state, outage.calls("cancelled")) == (CLOSED, cancelled + 1)
