"""The stack that all tests share, of processes or of containers, and a collector that receives its traces."""

import gc
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typing_extensions import override

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

# Tracebacks as plain as in production: by default structlog takes a second for each, and a delivery has three.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


# By default an example may take 200 ms, and making up the first ones a second: a machine that stands still takes more.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

CONTAINERS = "containers"
STACK = os.environ.get("STACK") or "processes"
"""What the stack of the tests is made of."""
_HOW = {
    "processes": "of this machine; make test STACK=containers for those of docker-compose.yml",
    CONTAINERS: "docker-compose.yml, by testcontainers; make test for processes of this machine",
}

_LONGEST_FIRST = (
    "tests/chaos/test_sabotage.py",
    # These wait more than they work, beside the one above, which does not.
    "tests/e2e/test_outages.py",
    "libs/chassis/tests/test_database_outages.py",
    "tests/e2e/test_bad_days.py",
    "tests/chaos/test_chaos.py",
    "tests/e2e/test_graceful_stop.py",
    "services/task-api/tests/test_stopping.py",
    "tests/lifecycle/test_lifecycle.py",
    "tests/e2e/test_breakers.py",
    "services/task-api/tests/test_bulk_equivalence.py",
    "libs/chassis/tests/test_publisher.py",
    "tests/contract/test_generated_requests.py",
    "tools/devstack/tests/test_stack.py",
)
"""Files of which each takes a minute or so: one that began last would keep one worker busy and the others idle."""


def pytest_configure() -> None:
    """Refuse a kind of stack that there is not: whoever mistyped one would be told what another has shown."""
    if STACK not in _HOW:
        raise pytest.UsageError(f"STACK={STACK} is no kind of stack; there are: {', '.join(_HOW)}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes long; the rest in the order of the directories, which have fixtures in common.

    On containers those tests run alone that ask for the whole stack.
    """
    missing = [name for name in _LONGEST_FIRST if not (config.rootpath / name).exists()]
    assert not missing, f"no longer there, but in conftest.py: {missing}"
    places = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.location[0], len(places)))
    if STACK == CONTAINERS:
        config.hook.pytest_deselected(items=[item for item in items if not _asks_for_the_stack(item)])
        items[:] = filter(_asks_for_the_stack, items)
    for item in items:
        if STACK == CONTAINERS and (reason := item.get_closest_marker("processes")) is not None:
            item.add_marker(pytest.mark.skip(f"needs a stack of processes: {reason.args[0]}"))
        if _asks_for_the_stack(item):
            item.user_properties.append(("stack", STACK))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what collecting has made, which stays: a million objects, looked at each time."""
    gc.collect()
    gc.freeze()


def _asks_for_the_stack(item: pytest.Item) -> bool:
    return "stack" in getattr(item, "fixturenames", ())


def pytest_report_header() -> str:
    return f"stack: {STACK} ({_HOW[STACK]})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end on which kind of stack tests ran: what a run has shown depends on it."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    ran = [report for report in reports if ("stack", STACK) in report.user_properties]
    if ran:
        terminalreporter.write_line(f"{len(ran)} tests ran on a stack of {STACK} ({_HOW[STACK]})")


_DAPRD = "dapr-diagnostics"
"""Spans of daprd itself, which have the `dapr-api-token` of every HTTP request (docs/security.md)."""


@dataclass(frozen=True)
class ExportedSpan:
    """What the tests look at in a span."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: frozenset[str] = frozenset()
    """Ids of the spans it links to, of whatever trace."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Those that are texts."""


@dataclass
class Collector:
    """An OpenTelemetry collector: takes OTLP over HTTP and keeps the last spans, and what was said in all of them."""

    url: str = ""
    # Not all: a worker that keeps a million objects spends most of its time on finding out that none is garbage.
    spans: deque[ExportedSpan] = field(default_factory=lambda: deque(maxlen=20_000))
    received: dict[bytes, None] = field(default_factory=dict)
    """What services exported, as it was sent but for ids and times, each once: texts are as they are in it."""

    def receive(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans.extend(
                    ExportedSpan(
                        service=attributes.get("service.name", ""),
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        links=frozenset(link.span_id.hex() for link in span.links),
                        attributes={item.key: item.value.string_value for item in span.attributes},
                    )
                    for span in scope.spans
                )
                if scope.scope.name != _DAPRD:
                    self.received |= dict.fromkeys(_said_in(span) for span in scope.spans)


def _said_in(span: Span) -> bytes:
    """Give a span without what makes each one different, so that a statement sent a million times is looked at once."""
    said = Span()
    said.CopyFrom(span)
    for name in ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano", "links"):
        said.ClearField(name)
    for event in said.events:
        event.ClearField("time_unix_nano")
    text: bytes = said.SerializeToString()
    return text


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.receive(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield collector
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def stack(collector: Collector) -> "Iterator[RunningStack]":
    """The whole real stack, of processes or of containers, exporting the traces of its services to the collector."""
    from devstack.leaks import LeakedSecretsError, find

    with _containers(collector) if STACK == CONTAINERS else _processes(collector) as running:
        yield running
        secrets = running.secrets()
    if leaks := find("exported spans", b"\n".join(collector.received), secrets):
        raise LeakedSecretsError(leaks)


@contextmanager
def _processes(collector: Collector) -> "Iterator[RunningStack]":
    from devstack.stack_under_test import StackUnderTest

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        environment.setenv("TASKWIRE_ERASURE_SETTLE", "5")
        with StackUnderTest() as running:
            yield running


@contextmanager
def _containers(collector: Collector) -> "Iterator[RunningStack]":
    from containers.container_stack import ContainerStack

    with ContainerStack(spans=collector.receive) as running:
        yield running


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What would be exported by a service that runs in this process, as if it were told where to."""
    from chassis import database_spans, tracing

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for module in (tracing, database_spans):  # a provider can be set once in a process, and others are to keep theirs
        monkeypatch.setattr(module, "_tracer", provider.get_tracer("test"))
    return exporter
