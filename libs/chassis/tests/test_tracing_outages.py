"""A collector that does not take spans must cost nothing but the spans."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from chassis.testing import PATIENCE
from chassis.tracing import configure_tracing

MORE_THAN_ARE_KEPT = 5_000


@pytest.fixture(params=["refuses", "says nothing"])
def collector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "says nothing":
            listener.listen(100)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        # It can be set once in a process, and other tests are to keep theirs.
        monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
        yield listener


@pytest.mark.usefixtures("collector")
async def test_spans_wait_for_no_collector_and_neither_does_the_end_of_the_process() -> None:
    provider = configure_tracing("test", "1.2.3")
    tracer = provider.get_tracer("test")
    turns = 0

    async def requests() -> None:
        nonlocal turns
        for _ in range(MORE_THAN_ARE_KEPT):
            with tracer.start_as_current_span("request"):
                turns += 1
            await asyncio.sleep(0)

    # In this thread, as in a service: whatever blocks here is a request that waits.
    async with asyncio.timeout(PATIENCE):
        await requests()
    assert turns == MORE_THAN_ARE_KEPT
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(provider.shutdown)
