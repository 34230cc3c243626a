"""The whole real stack, a person who uses it, and a collector that receives its traces."""

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import uuid_utils
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typing_extensions import override

from devstack.polling import within

if TYPE_CHECKING:
    from devstack.stack_under_test import StackUnderTest

PATIENCE = 90.0
"""Seconds after which something that must happen has not; far more than it takes, for slow machines."""

Json = dict[str, Any]


@dataclass(frozen=True)
class ExportedSpan:
    """What the tests look at in a span."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


@dataclass
class Collector:
    """An OpenTelemetry collector: takes OTLP over HTTP and keeps the spans."""

    url: str = ""
    spans: list[ExportedSpan] = field(default_factory=list)

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
                    )
                    for span in scope.spans
                )


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


@pytest.fixture(scope="session", autouse=True)
def traced_environment(collector: Collector) -> Iterator[None]:
    """Have every process of the stack export its traces; must come before the stack starts."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield


@dataclass(frozen=True)
class Person:
    """Somebody nobody else in the test run is, with a token, in front of the three services."""

    name: str
    http: httpx2.AsyncClient
    urls: dict[str, str]

    async def ask(self, method: str, path: str, body: Json | None = None, service: str = "task-api") -> httpx2.Response:
        return await self.http.request(method, f"{self.urls[service]}/api/v1{path}", json=body)

    async def create_task(self, title: str = "Buy milk", **fields: object) -> Json:
        response = await self.ask("POST", "/tasks", {"title": title} | fields)
        assert response.status_code == 201, response.text
        task: Json = response.json()
        return task

    async def change(self, task: Json, **fields: object) -> Json:
        response = await self.ask("PATCH", f"/tasks/{task['id']}", fields)
        assert response.status_code == 200, response.text
        changed: Json = response.json()
        return changed

    async def audit_entries(self, task: Json) -> list[Json]:
        response = await self.ask("GET", f"/audit/entries?limit=500&task_id={task['id']}", service="audit-worker")
        assert response.status_code == 200, response.text
        entries: list[Json] = response.json()["items"]
        return entries

    async def notifications(self) -> list[Json]:
        response = await self.ask("GET", "/notifications?limit=200", service="notifier")
        assert response.status_code == 200, response.text
        items: list[Json] = response.json()["items"]
        return items

    async def sees_versions_audited(self, task: Json, last: int) -> list[Json]:
        """Wait until the trail has every version of a task up to `last`, once each and in order."""
        entries: list[Json] = []

        async def complete() -> bool:
            entries[:] = await self.audit_entries(task)
            return len(entries) >= last

        assert await within(PATIENCE, complete, 0.1), f"only {entries} of {last} versions were audited"
        assert [entry["task_version"] for entry in entries] == list(range(1, last + 1))
        return entries

    async def is_notified(self, count: int) -> list[Json]:
        """Wait until there are so many notifications; newest first."""
        items: list[Json] = []

        async def complete() -> bool:
            items[:] = await self.notifications()
            return len(items) >= count

        assert await within(PATIENCE, complete, 0.1), f"only {items} of {count} notifications arrived"
        assert len(items) == count
        return items


@pytest.fixture
async def alice(stack: "StackUnderTest") -> AsyncIterator[Person]:
    """A person with an account of their own for this test."""
    name = f"alice-{uuid_utils.uuid7()}"
    headers = {"Authorization": f"Bearer {stack.token(name)}"}
    async with httpx2.AsyncClient(headers=headers, timeout=15) as http:
        yield Person(name, http, dict(stack.urls))
