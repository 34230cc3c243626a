"""The contract as JSON Schema 2020-12: what lies in Kafka, generated from the models.

The schemas promise what the publisher writes: what every event carries is required, although the models, which
also read, would do without some of it. A field with a default that a later minor adds stays optional, because the
events of earlier minors have none.
"""

from typing import Final

from pydantic import BaseModel, JsonValue

from task_events.accounts import ACCOUNT_EVENTS, ErasureConfirmed, ErasureRequested
from task_events.cloudevents import DATA_SCHEMA, TaskEvent
from task_events.models import ACCOUNT_CONTRACT_VERSION, CONTRACT_VERSION, TaskEventData
from task_events.topics import ACCOUNT_CONFIRMATIONS_TOPIC, ACCOUNTS_TOPIC, PUBSUB_NAME, TASKS_TOPIC

Json = dict[str, JsonValue]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE_SCHEMA: Final = f"urn:taskwire:events:task-envelope:{CONTRACT_VERSION}"

ACCOUNT_ENVELOPE_SCHEMA: Final = f"urn:taskwire:events:account-envelope:{ACCOUNT_CONTRACT_VERSION}"

_MAJOR: Final = CONTRACT_VERSION.split(".", maxsplit=1)[0]
_TRACEPARENT: Final = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
_DATA_HAS: Final = ("contract_version",)
_ENVELOPE_HAS: Final = (
    "specversion",
    "source",
    "datacontenttype",
    "dataschema",
    "partitionkey",
    "topic",
    "pubsubname",
)


def data_schema() -> Json:
    """Give the schema of `data`; its `$id` is what `dataschema` in every event says."""
    schema = _generated(TaskEventData)
    _promise(schema, _DATA_HAS)
    _field(schema, "contract_version")["pattern"] = rf"^{_MAJOR}\.\d+$"
    return {"$schema": DIALECT, "$id": DATA_SCHEMA} | schema


def envelope_schema() -> Json:
    """Give the schema of a whole record value: the CloudEvent in structured mode, after Dapr has added its part."""
    schema = _generated(TaskEvent)
    _object(schema, "properties").update(_transport_attributes())
    _promise(schema, _ENVELOPE_HAS)
    _field(schema, "dataschema")["pattern"] = rf"^{DATA_SCHEMA.removesuffix(CONTRACT_VERSION)}{_MAJOR}\.\d+$"
    definitions = _object(schema, "$defs")
    data = {key: value for key, value in data_schema().items() if key not in ("$schema", "$id", "$defs")}
    definitions[TaskEventData.__name__] = data
    return {"$schema": DIALECT, "$id": ENVELOPE_SCHEMA} | schema


def account_schema() -> Json:
    """Give the schema of a record value of `accounts` or `account-confirmations`, after Dapr has added its part."""
    schema = ACCOUNT_EVENTS.json_schema(mode="serialization")
    definitions = _object(schema, "$defs")
    topics = {ErasureRequested.__name__: ACCOUNTS_TOPIC, ErasureConfirmed.__name__: ACCOUNT_CONFIRMATIONS_TOPIC}
    for name, topic in topics.items():
        envelope = _object(definitions, name)
        added: Json = {
            **_transport_attributes(),
            "partitionkey": {"type": "string", "description": "Equal to `subject`"},
            "topic": {"type": "string", "const": topic, "description": "Added by Dapr"},
        }
        _object(envelope, "properties").update(added)
        _promise(envelope, (*_ENVELOPE_HAS, "type"))
        _field(envelope, "dataschema")["pattern"] = r"^urn:taskwire:events:account:1\.\d+$"
        _promise(_object(definitions, f"{name}Data"), _DATA_HAS)
    for name in definitions:
        for field in _object(_object(definitions, name), "properties"):
            _field(_object(definitions, name), field).pop("title", None)
    return {"$schema": DIALECT, "$id": ACCOUNT_ENVELOPE_SCHEMA} | schema


def _transport_attributes() -> Json:
    """Say which attributes the way to Kafka adds to those of the model, or leaves out when there is no trace."""
    return {
        "partitionkey": {"type": "string", "pattern": r"^[1-9]\d{0,18}$", "description": "Equal to `subject`"},
        "topic": {"type": "string", "const": TASKS_TOPIC, "description": "Added by Dapr"},
        "pubsubname": {"type": "string", "const": PUBSUB_NAME, "description": "Added by Dapr"},
        "traceparent": {
            "type": "string",
            "pattern": _TRACEPARENT,
            "description": "W3C trace context of the request that made the change; absent without a trace",
        },
        "traceid": {"type": "string", "description": "Equal to `traceparent`, in the place where Dapr looks for it"},
        "tracestate": {"type": "string", "description": "Added by Dapr; may be empty"},
    }


def _generated(model: type[BaseModel]) -> Json:
    """Let pydantic make a schema; the titles it makes from field names say nothing the names do not, so they go."""
    schema: Json = model.model_json_schema(mode="serialization")
    definitions = _object(schema, "$defs")
    for holder in (schema, *(_object(definitions, name) for name in definitions)):
        for name in _object(holder, "properties") if "properties" in holder else ():
            _field(holder, name).pop("title", None)
    return schema


def _promise(schema: Json, names: tuple[str, ...]) -> None:
    """Make fields required, in the order of the properties; a default has no meaning then."""
    required = schema["required"]
    assert isinstance(required, list)  # noqa: S101  (pydantic made it)
    schema["required"] = [name for name in _object(schema, "properties") if name in required or name in names]
    for name in names:
        _field(schema, name).pop("default", None)


def _field(schema: Json, name: str) -> Json:
    return _object(_object(schema, "properties"), name)


def _object(holder: Json, name: str) -> Json:
    member = holder[name]
    assert isinstance(member, dict)  # noqa: S101  (pydantic made it)
    return member
