"""The generated schemas: true to what the publisher writes, and strict where the contract is."""

import copy
from typing import Final

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import JsonValue

from task_events import TaskEvent, TaskEventType
from task_events.cloudevents import DATA_SCHEMA
from task_events.examples import example_events, stored
from task_events.json_schema import Json, data_schema, envelope_schema

EVENTS: Final = example_events()


def validator(schema: Json) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker(["date-time"]))


def changed(path: str, value: JsonValue) -> Json:
    """An example as it lies in Kafka with one member set, or left out when the value is None."""
    whole = copy.deepcopy(stored(EVENTS[0]))
    holder = whole
    *parents, name = path.split(".")
    for parent in parents:
        member = holder[parent]
        assert isinstance(member, dict)
        holder = member
    if value is None and name != "data":
        del holder[name]
    else:
        holder[name] = value
    return whole


def test_there_is_an_example_of_every_type() -> None:
    assert [event.type for event in EVENTS] == list(TaskEventType)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_what_lies_in_kafka_is_valid(event: TaskEvent) -> None:
    whole = stored(event)
    validator(envelope_schema()).validate(whole)
    validator(data_schema()).validate(whole["data"])


def test_an_event_without_a_trace_is_valid() -> None:
    validator(envelope_schema()).validate(stored(EVENTS[0].model_copy(update={"traceparent": None})))


def test_everything_the_publisher_always_writes_is_promised() -> None:
    always = stored(EVENTS[0]).keys() - {"traceparent", "traceid", "tracestate"}
    assert envelope_schema()["required"] == [name for name in envelope_schema_fields() if name in always]
    assert set(always) <= set(envelope_schema_fields())
    data = data_schema()
    assert isinstance(data["properties"], dict)
    assert data["required"] == [name for name in data["properties"] if name != "recipients"]  # of personal tasks none


def envelope_schema_fields() -> list[str]:
    fields = envelope_schema()["properties"]
    assert isinstance(fields, dict)
    return list(fields)


def test_the_dataschema_of_an_event_is_the_id_of_the_data_schema() -> None:
    assert data_schema()["$id"] == DATA_SCHEMA == EVENTS[0].dataschema


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("something", 1),
        ("data.later", [1]),
        ("data.task.tags", ["home"]),
        ("data.contract_version", "1.7"),
        ("dataschema", "urn:taskwire:events:task:1.7"),
    ],
)
def test_what_a_newer_minor_adds_is_valid(path: str, value: JsonValue) -> None:
    validator(envelope_schema()).validate(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", None),
        ("partitionkey", None),
        ("pubsubname", "other"),
        ("topic", "other"),
        ("type", "task.exploded"),
        ("subject", "seven"),
        ("time", "yesterday"),
        ("traceparent", "1234"),
        ("dataschema", "urn:taskwire:events:task:2.0"),
        ("data", None),
        ("data.contract_version", None),
        ("data.contract_version", "2.0"),
        ("data.task.version", 0),
        ("data.task.priority", "urgent"),
        ("data.task.created_at", "2026-03-01"),
        ("data.task.completed", "no"),
        ("data.actor", "alice"),
    ],
)
def test_what_breaks_the_contract_is_invalid(path: str, value: JsonValue) -> None:
    (error,) = validator(envelope_schema()).iter_errors(changed(path, value))
    named = ".".join(str(part) for part in error.absolute_path)
    assert path.startswith(named)
    assert path.rpartition(".")[2] in f"{named} {error.message}"
