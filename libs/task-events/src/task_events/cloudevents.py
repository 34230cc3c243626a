"""The CloudEvents 1.0 envelope around a task event (JSON format, `application/cloudevents+json`).

The publisher makes the whole envelope itself instead of letting Dapr make one: so the id is the one the
outbox row was given, and `time` keeps its microseconds (Dapr's own has whole seconds).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import to_json

from task_events.models import ACCOUNT_CONTRACT_VERSION, CONTRACT_VERSION, TaskEventData, TaskEventType, utc_text
from task_events.topics import TASKS_TOPIC

CONTENT_TYPE: Final = "application/cloudevents+json"
SOURCE: Final = "/taskwire/task-api"
DATA_SCHEMA: Final = f"urn:taskwire:events:task:{CONTRACT_VERSION}"
ACCOUNT_DATA_SCHEMA: Final = f"urn:taskwire:events:account:{ACCOUNT_CONTRACT_VERSION}"


class InvalidEventError(ValueError):
    """What arrived is not a task event this contract version can read."""


class TaskEvent(BaseModel):
    """One task event with its CloudEvents context attributes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=100,
            description="UUIDv7, made once in the transaction of the change; every redelivery carries it",
        ),
    ]
    source: Annotated[str, Field(min_length=1, max_length=200)] = SOURCE
    type: TaskEventType
    subject: Annotated[
        str, Field(pattern=r"^[1-9]\d{0,18}$", description="The task id in decimal digits; equal to the Kafka key")
    ]
    time: Annotated[AwareDatetime, Field(description="When the change was made, not when it was published")]
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = DATA_SCHEMA
    traceparent: Annotated[str | None, Field(description="W3C trace context of the request that made the change")] = (
        None
    )
    data: TaskEventData

    def to_envelope(self) -> dict[str, JsonValue]:
        """Give the event as a structured-mode CloudEvent, ready to be published.

        `traceid` repeats `traceparent`: Dapr keeps the one only when the other is there with the same value.
        """
        return {**self._attributes(), "data": self.data.model_dump(mode="json")}

    def to_json(self) -> bytes:
        """Give the envelope as UTF-8 JSON."""
        return self.encode().body

    def encode(self) -> "EncodedEvent":
        """Give the event ready to be published."""
        attributes = self._attributes()
        return EncodedEvent(self.id, self.subject, _written_out(attributes, self.data.model_dump_json()))

    def _attributes(self) -> dict[str, str]:
        made = _attributes(
            event_id=self.id,
            event_type=self.type.value,
            subject=self.subject,
            time=self.time,
            traceparent=self.traceparent,
        )
        return made | {"source": self.source, "dataschema": self.dataschema}


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """An event written out, and what publishing must know of it.

    Attributes:
        id: The event's.
        subject: The key of the record: the task id in decimal digits, or the user's id.
        body: The envelope as UTF-8 JSON.
        topic: Where it belongs.
    """

    id: str
    subject: str
    body: bytes
    topic: str = TASKS_TOPIC


def encode_stored_event(
    *,
    event_id: str,
    event_type: str,
    subject: str,
    time: datetime,
    traceparent: str | None,
    data: str,
    source: str = SOURCE,
    topic: str = TASKS_TOPIC,
) -> EncodedEvent:
    """Write out an event whose data is JSON already, as `TaskEvent.encode` would.

    Args:
        event_id: Of the event.
        event_type: One of `TaskEventType`, or of another topic's types.
        subject: The task id in decimal digits, or what else the topic is keyed by.
        time: When the change was made.
        traceparent: Of the request that made it.
        data: A `TaskEventData`, or what else the topic holds, as JSON, written by this contract; it is not looked at.
        source: Who says it.
        topic: Where it belongs.
    """
    attributes = _attributes(
        event_id=event_id, event_type=event_type, subject=subject, time=time, traceparent=traceparent
    )
    if topic != TASKS_TOPIC:
        attributes |= {"source": source, "dataschema": ACCOUNT_DATA_SCHEMA}
    return EncodedEvent(event_id, subject, _written_out(attributes, data), topic)


def _attributes(
    *, event_id: str, event_type: str, subject: str, time: datetime, traceparent: str | None
) -> dict[str, str]:
    attributes = {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": event_type,
        "subject": subject,
        "time": utc_text(time),
        "datacontenttype": "application/json",
        "dataschema": DATA_SCHEMA,
        "partitionkey": subject,
    }
    if traceparent is not None:
        attributes["traceparent"] = attributes["traceid"] = traceparent
    return attributes


def _written_out(attributes: dict[str, str], data: str) -> bytes:
    # pydantic's writer is several times as fast as json's, and this is done for every event there is.
    return b'%b,"data":%b}' % (to_json(attributes)[:-1], data.encode())


def parse_task_event(body: bytes | str) -> TaskEvent:
    """Read a structured-mode CloudEvent as a task event.

    Args:
        body: JSON text as it came from the broker or from Dapr.

    Raises:
        InvalidEventError: Not JSON, not a CloudEvent, another contract major, or fields missing or of the
            wrong type. The message names the fields and never quotes their values.
    """
    raw = body.encode(errors="replace") if isinstance(body, str) else body
    try:
        event = TaskEvent.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidEventError(f"not a task event: {describe_invalid(error)}") from None
    if b"\\u0000" in raw and _has_nul(event.model_dump(mode="json")):
        raise InvalidEventError("not a task event: it holds NUL, which no text here can")
    ours, theirs = CONTRACT_VERSION.split(".")[0], event.data.contract_version.split(".")[0]
    if ours != theirs:
        raise InvalidEventError(f"contract version {event.data.contract_version} is not {ours}.x")
    if event.subject != str(event.data.task.id):
        raise InvalidEventError(f"subject {event.subject} is not the task id {event.data.task.id}")
    return event


def describe_invalid(error: ValidationError) -> str:
    """Name the fields that are wrong, and quote none of their values."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'event'}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_context=False, include_url=False)[:5]
    )


def _has_nul(value: JsonValue) -> bool:
    match value:
        case str():
            return "\x00" in value
        case dict():
            return any(_has_nul(part) for item in value.items() for part in item)
        case list():
            return any(_has_nul(part) for part in value)
        case _:
            return False
