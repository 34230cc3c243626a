"""The contract as an AsyncAPI 3.1 document: which topics there are, what is in them, and how they are keyed."""

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import JsonValue

from task_events.accounts import MAX_USER_ID_CHARS, AccountEventType, ErasureConfirmed, ErasureRequested
from task_events.cloudevents import CONTENT_TYPE
from task_events.examples import example_account_events, example_events, stored, stored_account_event
from task_events.json_schema import Json, account_schema, envelope_schema
from task_events.models import CONTRACT_VERSION, TaskEventType
from task_events.topics import (
    ACCOUNT_CONFIRMATIONS_TOPIC,
    ACCOUNTS_PARTITIONS,
    ACCOUNTS_TOPIC,
    AUDIT_DEAD_LETTER_TOPIC,
    NOTIFIER_DEAD_LETTER_TOPIC,
    TASKS_PARTITIONS,
    TASKS_TOPIC,
)

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
_ACCOUNT_SUMMARIES: Final = {
    AccountEventType.ERASURE_REQUESTED: "A user is to be erased from all services",
    AccountEventType.ERASURE_CONFIRMED: "A service has erased a user",
}
_CHANNELS: Final = {
    "tasks": (
        TASKS_TOPIC,
        TASKS_PARTITIONS,
        "Everything that happens to tasks: one key per task, so one partition, in the order of the task's versions.",
    ),
    "accounts": (
        ACCOUNTS_TOPIC,
        ACCOUNTS_PARTITIONS,
        "Whose account is to be erased: one key per user. Not for those who only follow tasks.",
    ),
    "accountConfirmations": (
        ACCOUNT_CONFIRMATIONS_TOPIC,
        ACCOUNTS_PARTITIONS,
        "Which service has erased whom. A topic of its own, so that who may confirm an erasure cannot ask for one.",
    ),
    "auditWorkerDeadLetters": (AUDIT_DEAD_LETTER_TOPIC, 1, "What audit-worker could not process, byte for byte."),
    "notifierDeadLetters": (NOTIFIER_DEAD_LETTER_TOPIC, 1, "What notifier could not process, byte for byte."),
}


_TYPES: Final[Mapping[str, Iterable[TaskEventType | AccountEventType]]] = {
    "tasks": TaskEventType,
    "accounts": [AccountEventType.ERASURE_REQUESTED],
    "accountConfirmations": [AccountEventType.ERASURE_CONFIRMED],
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


def message_name(event_type: TaskEventType | AccountEventType) -> str:
    """Give the name of a type's message: `taskCreated` for `task.created`."""
    subject, verb = event_type.value.split(".")
    return subject + "".join(word.capitalize() for word in verb.split("_"))


def _channel(name: str) -> Json:
    address, partitions, description = _CHANNELS[name]
    names = [message_name(event_type) for event_type in _TYPES.get(name, ())] or ["deadLetter"]
    messages: Json = {message: {"$ref": f"#/components/messages/{message}"} for message in names}
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
        if name not in _TYPES
    }
    request: Json = {
        "action": "send",
        "channel": {"$ref": "#/channels/accounts"},
        "messages": [{"$ref": "#/channels/accounts/messages/userErasureRequested"}],
        "summary": "task-api asks all to erase a user, again and again until all have confirmed",
    }
    confirm: Json = {
        "action": "send",
        "channel": {"$ref": "#/channels/accountConfirmations"},
        "messages": [{"$ref": "#/channels/accountConfirmations/messages/userErasureConfirmed"}],
        "summary": "A consumer says that it holds nothing of the user any more",
    }
    return {"publishTaskEvents": publish, "requestErasure": request, "confirmErasure": confirm} | give_up


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
    for account_event in example_account_events():
        messages[message_name(account_event.type)] = _account_message(account_event)
    messages["deadLetter"] = {
        "name": "dead letter",
        "summary": "The original bytes, with the original key; not always a task event, not always JSON",
        "contentType": "application/octet-stream",
        "payload": {},
    }
    return messages


def _account_message(event: ErasureRequested | ErasureConfirmed) -> Json:
    example = stored_account_event(event)
    key: Json = {"type": "string", "maxLength": MAX_USER_ID_CHARS, "description": "The user's id"}
    return {
        "name": event.type.value,
        "title": event.type.value,
        "summary": _ACCOUNT_SUMMARIES[event.type],
        "contentType": CONTENT_TYPE,
        "correlationId": {"$ref": "#/components/correlationIds/request"},
        "headers": {"$ref": "#/components/schemas/KafkaHeaders"},
        "payload": {"$ref": f"#/components/schemas/{type(event).__name__}"},
        "bindings": {"kafka": {"key": key, "bindingVersion": _KAFKA_BINDING}},
        "examples": [
            {"name": "example", "headers": {"partitionKey": example["partitionkey"]}, "payload": example},
        ],
    }


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
    accounts = account_schema()["$defs"]
    assert isinstance(accounts, dict)  # noqa: S101  (pydantic made it)
    schemas: Json = {_ENVELOPE: envelope, **definitions, **accounts, "KafkaHeaders": headers}
    return {name: _with_moved_references(schema) for name, schema in schemas.items()}


def _with_moved_references(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _moved(part) if key == "$ref" else _with_moved_references(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_moved_references(part) for part in value]
    return value


def _moved(reference: JsonValue) -> str:
    return str(reference).replace("#/$defs/", "#/components/schemas/")
