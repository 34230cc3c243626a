"""What spans say of the process they are from, and of what failed."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from chassis.tracing import configure_tracing, detached_span, joint_span


@pytest.fixture(autouse=True)
def others_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider can be set once in a process."""
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


def test_spans_say_which_version_of_which_service_they_are_from_and_which_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    said = configure_tracing("task-api", "1.2.3").resource.attributes
    assert (said["service.name"], said["service.version"]) == ("task-api", "1.2.3")
    assert said["service.instance.id"]


def test_whoever_deploys_has_the_last_word_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tasks")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7,deployment.environment.name=test")
    said = configure_tracing("task-api", "1.2.3").resource.attributes
    assert {name: said[name] for name in ("service.name", "service.instance.id", "deployment.environment.name")} == {
        "service.name": "tasks",
        "service.instance.id": "pod-7",
        "deployment.environment.name": "test",
    }
    assert said["service.version"] == "1.2.3"


def fail_in_both_kinds() -> None:
    with (
        detached_span("publish tasks", traceparent=None, kind=SpanKind.PRODUCER, attributes={}) as span,
        joint_span("relay outbox", [span]),
    ):
        raise ValueError("the title is: Buy milk")


def test_a_failure_has_the_name_of_its_error_and_nothing_of_what_it_quotes(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="Buy milk"):
        fail_in_both_kinds()
    spans = exported.get_finished_spans()
    assert sorted(span.name for span in spans) == ["publish tasks", "relay outbox"]
    for span in spans:
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "ValueError"
        assert "milk" not in span.to_json()
