"""The event contract of Taskwire and nothing else: no I/O, no dependency but pydantic."""

from task_events.accounts import (
    AccountEventType,
    ErasureConfirmed,
    ErasureConfirmedData,
    ErasureRequested,
    ErasureRequestedData,
    parse_account_event,
)
from task_events.cloudevents import (
    CONTENT_TYPE,
    EncodedEvent,
    InvalidEventError,
    TaskEvent,
    encode_stored_event,
    parse_task_event,
)
from task_events.models import Actor, FieldChange, TaskEventData, TaskEventType, TaskSnapshot, utc_text

__all__ = [
    "CONTENT_TYPE",
    "AccountEventType",
    "Actor",
    "EncodedEvent",
    "ErasureConfirmed",
    "ErasureConfirmedData",
    "ErasureRequested",
    "ErasureRequestedData",
    "FieldChange",
    "InvalidEventError",
    "TaskEvent",
    "TaskEventData",
    "TaskEventType",
    "TaskSnapshot",
    "encode_stored_event",
    "parse_account_event",
    "parse_task_event",
    "utc_text",
]
