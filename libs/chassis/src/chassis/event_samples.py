"""For tests: deliveries that are no event of ours, and such as a newer publisher would send."""

import json

from pydantic import JsonValue

from chassis.testing import make_task_event
from task_events import TaskEvent

_REQUIRED = (
    "id",
    "type",
    "subject",
    "time",
    "data",
    "data.task",
    "data.task.owner_id",
    "data.task.version",
    "data.changes",
    "data.actor.id",
    "data.occurred_at",
    "data.corr_id",
)


def with_member(event: TaskEvent, path: str, value: JsonValue) -> bytes:
    """Give the envelope of an event with one member set, e.g. `data.task.version`."""
    envelope, holder, name = _opened(event, path)
    holder[name] = value
    return json.dumps(envelope).encode()


def without_member(event: TaskEvent, path: str) -> bytes:
    """Give the envelope of an event with one member left out."""
    envelope, holder, name = _opened(event, path)
    del holder[name]
    return json.dumps(envelope).encode()


def _opened(event: TaskEvent, path: str) -> tuple[dict[str, JsonValue], dict[str, JsonValue], str]:
    envelope: dict[str, JsonValue] = json.loads(event.to_json())
    *parents, name = path.split(".")
    holder = envelope
    for parent in parents:
        member = holder[parent]
        assert isinstance(member, dict)  # noqa: S101  (test code)
        holder = member
    return envelope, holder, name


SAMPLE = make_task_event(3, 1)

MALFORMED_DELIVERIES: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "not an object": b"[]",
    "an object of another kind": b'{"specversion": "1.0"}',
    **{f"without {path}": without_member(SAMPLE, path) for path in _REQUIRED},
    "another CloudEvents version": with_member(SAMPLE, "specversion", "0.3"),
    "another major version": with_member(SAMPLE, "data.contract_version", "2.0"),
    "unknown type": with_member(SAMPLE, "type", "task.eaten"),
    "subject of another task": with_member(SAMPLE, "subject", "4"),
    "version 0": with_member(SAMPLE, "data.task.version", 0),
    "time without offset": with_member(SAMPLE, "data.occurred_at", "2026-03-01T08:31:00"),
}
"""What a consumer must drop, by what is wrong with it."""

NEWER_DELIVERIES: dict[str, bytes] = {
    "newer minor version": with_member(SAMPLE, "data.contract_version", "1.7"),
    "unknown attribute": with_member(SAMPLE, "datacontentencoding", "none"),
    "unknown field of the task": with_member(SAMPLE, "data.task.tags", ["home"]),
    "unknown change": with_member(SAMPLE, "data.changes.tags", {"old": [], "new": ["home"]}),
}
"""`SAMPLE` as a newer publisher of the same contract major may send it; a consumer must accept it."""
