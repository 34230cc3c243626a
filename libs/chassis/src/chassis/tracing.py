"""OpenTelemetry traces: one trace from the HTTP request through outbox and Kafka to the consumers' work.

Nothing is exported until `OTEL_EXPORTER_OTLP_ENDPOINT` (or its traces form) says where to; ids are made all
the same, so logs and events can be joined.
"""

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from fastapi.telemetry import TelemetryConfig
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Span as WritableSpan
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue
from starlette.types import Scope
from typing_extensions import override

_ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Probes tell nothing; events open a span of their own.
_NOT_TRACED: Final = (
    "/health/",
    "/metrics",
    "/dapr/",
    "/events/",
)
_ADDRESSES: Final = ("url.path", "url.query", "url.full")
# Every credential of ours that may stand in an address begins so.
_CREDENTIAL: Final = re.compile(r"\b(tw[a-z]*_)[A-Za-z0-9_-]+")
# And whatever else a caller puts where nobody reads it, under a name that says what it is.
_SECRET_PARAMETER: Final = re.compile(
    r"((?:^|[?&])[^=&]*(?:token|key|secret|password|signature|credential|jwt|code)[^=&]*=)[^&#]*", re.IGNORECASE
)
_LAST_SPANS_TIMEOUT: Final = 3.0

_tracer = trace.get_tracer("taskwire")


class WithoutCredentials(SpanProcessor):
    """Hides credentials in an address (`twcal_…`, `tw_…`, `?access_token=…`), before a span goes anywhere."""

    @override
    def on_start(self, span: WritableSpan, parent_context: Context | None = None) -> None:
        """See the OpenTelemetry specification."""
        for name in _ADDRESSES:
            address = (span.attributes or {}).get(name)
            if not isinstance(address, str):
                continue
            shown = _SECRET_PARAMETER.sub(r"\1…", _CREDENTIAL.sub(r"\1…", address))
            if shown != address:
                span.set_attribute(name, shown)


def configure_tracing(service: str, version: str) -> TracerProvider:
    """Install the tracer provider of this process; call once, before the first request.

    `OTEL_SERVICE_NAME` overrides `service`, `OTEL_RESOURCE_ATTRIBUTES` all else that is said of this process, as the
    OpenTelemetry specification has it.
    """
    instance = f"{socket.gethostname()}-{os.getpid()}"
    ours = Resource({SERVICE_VERSION: version, SERVICE_INSTANCE_ID: instance})
    named = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", service)})
    provider = TracerProvider(resource=ours.merge(named))
    provider.add_span_processor(WithoutCredentials())
    if exports_spans():
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def exports_spans() -> bool:
    """Tell whether spans go anywhere, or are made for their ids alone."""
    return any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)


def stop_tracing(provider: TracerProvider) -> None:
    """Send the last spans; a collector that does not answer holds up the end of the process for a moment only."""
    sending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    sending.start()
    sending.join(_LAST_SPANS_TIMEOUT)


def request_telemetry() -> TelemetryConfig:
    """Have FastAPI open a server span for every API request, and nothing else: metrics and logs are ours."""
    return {"metrics": False, "logs": False, "operation_spans": False, "exclude": _is_not_traced}


def _is_not_traced(scope: Scope) -> bool:
    return str(scope.get("path", "")).startswith(_NOT_TRACED)


def current_traceparent() -> str | None:
    """Give the W3C `traceparent` of the current span, or None outside any."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: Span) -> str | None:
    """Give the W3C `traceparent` that makes another span a child of this one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=trace.set_span_in_context(span))
    return carrier.get("traceparent")


@contextmanager
def within_span(span: Span) -> Iterator[None]:
    """Make an open span the current one for a block of work; what happens in it is not the span's end."""
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        yield


@contextmanager
def detached_span(
    name: str, *, traceparent: str | None, kind: SpanKind, attributes: Mapping[str, AttributeValue]
) -> Iterator[Span]:
    """Open a span that continues a trace from another process or from the past, without making it current."""
    parent = propagate.extract({"traceparent": traceparent} if traceparent else {})
    span = _tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
    try:
        yield span
    except Exception as error:
        fail(span, error)
        raise
    finally:
        span.end()


def fail(span: Span, error: BaseException) -> None:
    """Say that what a span stands for failed, and with which error; its message may quote what was written."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR, type(error).__name__)


def of_message(
    operation: Literal["publish", "process"], *, topic: str, event_id: str, event_type: str
) -> dict[str, AttributeValue]:
    """Give what OpenTelemetry has one say of a message and its CloudEvent.

    Not the record's key: of an account event it may name somebody, and spans outlive an account.
    """
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": "send" if operation == "publish" else operation,
        "messaging.destination.name": topic,
        "messaging.message.id": event_id,
        "cloudevents.event_id": event_id,
        "cloudevents.event_type": event_type,
    }


@contextmanager
def joint_span(name: str, spans: Sequence[Span]) -> Iterator[None]:
    """Open a span for work that is done once for several others, and make it the current one.

    For one of them it is its child. For more it begins a trace of its own, and links lead there and back: a span has
    one parent, and the work belongs to all of them alike. Nothing is opened where nobody would see it.

    Args:
        name: Of the span.
        spans: Those the work is done for. The SDK keeps 128 links (`OTEL_SPAN_LINK_COUNT_LIMIT`); the links back, which
            are what one follows, are one in each span.
    """
    if not exports_spans():
        yield
        return
    alone = len(spans) == 1
    with _tracer.start_as_current_span(
        name,
        context=trace.set_span_in_context(spans[0]) if alone else Context(),
        kind=SpanKind.INTERNAL,
        links=[] if alone else [Link(span.get_span_context()) for span in spans],
        attributes={"messaging.batch.message_count": len(spans)},
        record_exception=False,
        set_status_on_exception=False,
    ) as joint:
        if not alone:
            for span in spans:
                span.add_link(joint.get_span_context())
        try:
            yield
        except BaseException as error:
            fail(joint, error)
            raise
