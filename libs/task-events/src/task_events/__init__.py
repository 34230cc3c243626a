"""The event contract of Taskwire and nothing else: no I/O, no dependency but pydantic."""

from task_events.cloudevents import CONTENT_TYPE, InvalidEventError, TaskEvent, parse_task_event
from task_events.models import Actor, FieldChange, TaskEventData, TaskEventType, TaskSnapshot, utc_text

__all__ = [
    "CONTENT_TYPE",
    "Actor",
    "FieldChange",
    "InvalidEventError",
    "TaskEvent",
    "TaskEventData",
    "TaskEventType",
    "TaskSnapshot",
    "parse_task_event",
    "utc_text",
]
