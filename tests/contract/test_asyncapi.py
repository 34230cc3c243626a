"""The AsyncAPI document: valid by the official schema, and true about the messages in it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from jsonschema import Draft7Validator, FormatChecker
from pydantic import JsonValue

from task_events import TaskEventType
from task_events.asyncapi import asyncapi_document, message_name
from task_events.json_schema import Json
from task_events.topics import (
    ACCOUNT_CONFIRMATIONS_TOPIC,
    ACCOUNTS_PARTITIONS,
    ACCOUNTS_TOPIC,
    AUDIT_DEAD_LETTER_TOPIC,
    NOTIFIER_DEAD_LETTER_TOPIC,
    TASKS_PARTITIONS,
    TASKS_TOPIC,
)

OFFICIAL: Final = json.loads((Path(__file__).parent / "asyncapi" / "3.1.0.schema.json").read_bytes())
DOCUMENT: Final = asyncapi_document()


def part(holder: JsonValue, *path: str | int) -> Json:
    """The object at a path of the document."""
    for step in path:
        match holder, step:
            case dict(), str():
                holder = holder[step]
            case list(), int():
                holder = holder[step]
    assert isinstance(holder, dict)
    return holder


def test_it_is_valid_asyncapi_3_1() -> None:
    Draft7Validator(OFFICIAL).validate(DOCUMENT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: part(document, "channels", "tasks", "bindings", "kafka").update(partitions="six"),
        lambda document: part(document, "operations", "publishTaskEvents").update(action="shout"),
        lambda document: part(document, "components", "messages", "taskCreated").update(payloads={}),
        lambda document: document.pop("info"),
        lambda document: document.update(asyncapi="3.9.0"),
    ],
)
def test_the_official_schema_sees_damage(damage: Callable[[Json], object]) -> None:
    document = copy.deepcopy(DOCUMENT)
    damage(document)
    assert not Draft7Validator(OFFICIAL).is_valid(document)


def test_it_names_the_topics_as_the_broker_has_them() -> None:
    channels = part(DOCUMENT, "channels")
    kafka = [part(channels, name, "bindings", "kafka") for name in channels]
    assert [(binding["topic"], binding["partitions"]) for binding in kafka] == [
        (TASKS_TOPIC, TASKS_PARTITIONS),
        (ACCOUNTS_TOPIC, ACCOUNTS_PARTITIONS),
        (ACCOUNT_CONFIRMATIONS_TOPIC, ACCOUNTS_PARTITIONS),
        (AUDIT_DEAD_LETTER_TOPIC, 1),
        (NOTIFIER_DEAD_LETTER_TOPIC, 1),
    ]
    assert [part(channels, name)["address"] for name in channels] == [binding["topic"] for binding in kafka]


@pytest.mark.parametrize("event_type", TaskEventType)
def test_the_example_of_a_message_is_valid_for_it_and_for_no_other(event_type: TaskEventType) -> None:
    name = message_name(event_type)
    example = part(DOCUMENT, "components", "messages", name, "examples", 0, "payload")
    accepting = [message_name(other) for other in TaskEventType if accepts(message_name(other), example)]
    assert accepting == [name]
    assert part(DOCUMENT, "channels", "tasks", "messages", name)["$ref"] == f"#/components/messages/{name}"


def accepts(message: str, example: Json) -> bool:
    payload = part(DOCUMENT, "components", "messages", message, "payload")
    schema = payload | {"components": DOCUMENT["components"]}
    return Draft7Validator(schema, format_checker=FormatChecker(["date-time"])).is_valid(example)


def test_the_key_and_the_correlation_id_are_where_it_says() -> None:
    message = part(DOCUMENT, "components", "messages", "taskCreated")
    example = part(message, "examples", 0, "payload")
    key = part(message, "bindings", "kafka", "key")
    Draft7Validator(key).validate(example["partitionkey"])
    assert example["partitionkey"] == example["subject"] == str(part(example, "data", "task")["id"])
    location = str(part(DOCUMENT, "components", "correlationIds", "request")["location"])
    assert part(example, *location.partition("#/")[2].split("/")[:-1])["corr_id"] == "example-1"


def test_every_reference_leads_somewhere() -> None:
    references = every_reference(DOCUMENT)
    assert len(references) > 20
    for reference in references:
        part(DOCUMENT, *reference.removeprefix("#/").split("/"))


def every_reference(value: JsonValue) -> list[str]:
    if isinstance(value, dict):
        found = [str(value["$ref"])] if "$ref" in value else []
        return found + [reference for member in value.values() for reference in every_reference(member)]
    if isinstance(value, list):
        return [reference for member in value for reference in every_reference(member)]
    return []
