"""The contract as an AsyncAPI 3.1 document: which topics there are, what is in them, and how they are keyed."""

from typing import Final

from pydantic import JsonValue

from task_events.cloudevents import CONTENT_TYPE
from task_events.examples import example_events, stored
from task_events.json_schema import Json, envelope_schema
from task_events.models import CONTRACT_VERSION, TaskEventType
from task_events.topics import AUDIT_DEAD_LETTER_TOPIC, NOTIFIER_DEAD_LETTER_TOPIC, TASKS_PARTITIONS, TASKS_TOPIC

_KAFKA_BINDING: Final = "0.5.0"
_ENVELOPE: Final = "TaskEvent"
_SUMMARIES: Final = {
    TaskEventType.CREATED: "A task came into being",
    TaskEventType.UPDATED: "Fields of a task changed",
    TaskEventType.COMPLETED: "A task was completed",
    TaskEventType.REOPENED: "A completed task was opened again",
    TaskEventType.DELETED: "A task was deleted; it can be restored",
    TaskEventType.RESTORED: "A deleted task came back",
}
_CHANNELS: Final = {
    "tasks": (
        TASKS_TOPIC,
        "Everything that happens to tasks: one key per task, so one partition, in the order of the task's versions.",
    ),
    "auditWorkerDeadLetters": (AUDIT_DEAD_LETTER_TOPIC, "What audit-worker could not process, byte for byte."),
    "notifierDeadLetters": (NOTIFIER_DEAD_LETTER_TOPIC, "What notifier could not process, byte for byte."),
}


def asyncapi_document() -> Json:
    """Give the whole document; it refers to nothing outside itself."""
    return {
        "asyncapi": "3.1.0",
        "id": "urn:taskwire:events",
        "info": {
            "title": "Taskwire task events",
            "version": f"{CONTRACT_VERSION}.0",
            "description": "CloudEvents 1.0 in structured mode (JSON) on Kafka. Delivery is at least once and in order "
            "per task; consumers know duplicates by `id` and gaps by `data.task.version`. "
            "Rules and examples: docs/events.md.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "development": {
                "host": "127.0.0.1:8050",
                "protocol": "kafka",
                "description": "The broker of `make up`; with another TASKWIRE_PORT_BASE, that and 50",
            }
        },
        "channels": {name: _channel(name) for name in _CHANNELS},
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas(), "correlationIds": _correlation_ids()},
    }


def message_name(event_type: TaskEventType) -> str:
    """Give the name of a type's message: `taskCreated` for `task.created`."""
    subject, verb = event_type.value.split(".")
    return subject + verb.capitalize()


def _channel(name: str) -> Json:
    address, description = _CHANNELS[name]
    dead_letters = name != "tasks"
    names = ["deadLetter"] if dead_letters else [message_name(event_type) for event_type in TaskEventType]
    messages: Json = {message: {"$ref": f"#/components/messages/{message}"} for message in names}
    partitions = 1 if dead_letters else TASKS_PARTITIONS
    binding: Json = {"topic": address, "partitions": partitions, "bindingVersion": _KAFKA_BINDING}
    return {"address": address, "description": description, "messages": messages, "bindings": {"kafka": binding}}


def _operations() -> Json:
    publish: Json = {
        "action": "send",
        "channel": {"$ref": "#/channels/tasks"},
        "summary": "task-api tells what was committed: nothing else, nothing less",
    }
    give_up: Json = {
        f"keepAside{name[0].upper()}{name[1:]}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": "A consumer puts aside what it gave up on",
        }
        for name in _CHANNELS
        if name != "tasks"
    }
    return {"publishTaskEvents": publish} | give_up


def _messages() -> Json:
    examples = {event.type: event for event in example_events()}
    messages: Json = {}
    for event_type in TaskEventType:
        example = stored(examples[event_type])
        messages[message_name(event_type)] = {
            "name": event_type.value,
            "title": event_type.value,
            "summary": _SUMMARIES[event_type],
            "contentType": CONTENT_TYPE,
            "correlationId": {"$ref": "#/components/correlationIds/request"},
            "headers": {"$ref": "#/components/schemas/KafkaHeaders"},
            "payload": {
                "allOf": [
                    {"$ref": f"#/components/schemas/{_ENVELOPE}"},
                    {"type": "object", "properties": {"type": {"const": event_type.value}}},
                ]
            },
            "bindings": {"kafka": {"key": _key(), "bindingVersion": _KAFKA_BINDING}},
            "examples": [
                {"name": "example", "headers": {"partitionKey": example["partitionkey"]}, "payload": example},
            ],
        }
    messages["deadLetter"] = {
        "name": "dead letter",
        "summary": "The original bytes, with the original key; not always a task event, not always JSON",
        "contentType": "application/octet-stream",
        "payload": {},
    }
    return messages


def _key() -> Json:
    return {"type": "string", "pattern": r"^[1-9]\d{0,18}$", "description": "The task id in decimal digits"}


def _correlation_ids() -> Json:
    return {
        "request": {
            "description": "The request that made the change; the same in logs and in the audit trail",
            "location": "$message.payload#/data/corr_id",
        }
    }


def _schemas() -> Json:
    """Give the envelope's schema and those it refers to, side by side instead of one inside the other."""
    envelope = envelope_schema()
    definitions = envelope.pop("$defs")
    assert isinstance(definitions, dict)  # noqa: S101  (pydantic made it)
    for keyword in ("$schema", "$id"):
        del envelope[keyword]
    headers: Json = {
        "type": "object",
        "properties": {"partitionKey": {"type": "string", "description": "Dapr's copy of the key"}},
    }
    schemas: Json = {_ENVELOPE: envelope, **definitions, "KafkaHeaders": headers}
    return {name: _with_moved_references(schema) for name, schema in schemas.items()}


def _with_moved_references(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _moved(part) if key == "$ref" else _with_moved_references(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_moved_references(part) for part in value]
    return value


def _moved(reference: JsonValue) -> str:
    return str(reference).replace("#/$defs/", "#/components/schemas/")
