"""The envelope: what goes out comes back, and what is not ours is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from task_events import InvalidEventError, TaskEvent, encode_stored_event, parse_task_event, utc_text

AT = datetime(2026, 3, 1, 8, 30, 0, 120, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def envelope(**changed: object) -> dict[str, Any]:
    task = {
        "id": 7,
        "owner_id": "alice",
        "title": "Buy milk",
        "description": None,
        "priority": "high",
        "due_at": None,
        "completed": False,
        "completed_at": None,
        "version": 3,
        "created_at": utc_text(AT),
        "updated_at": utc_text(AT),
        "deleted_at": None,
        "tags": ["home"],
        "position": "0660c32837c19d",
        "parent_id": None,
        "recurrence": {"rule": "FREQ=DAILY", "anchor": "due", "time_zone": "Europe/Paris"},
    }
    data = {
        "contract_version": "1.2",
        "task": task,
        "changes": {"title": {"old": "Buy", "new": "Buy milk"}},
        "actor": {"id": "alice"},
        "occurred_at": utc_text(AT),
        "corr_id": "story-1",
    }
    whole: dict[str, Any] = {
        "specversion": "1.0",
        "id": "0190-id",
        "source": "/taskwire/task-api",
        "type": "task.updated",
        "subject": "7",
        "time": utc_text(AT),
        "datacontenttype": "application/json",
        "dataschema": "urn:taskwire:events:task:1.2",
        "data": data,
    }
    return whole | changed


def with_task(**changed: object) -> dict[str, Any]:
    data: dict[str, Any] = envelope()["data"]
    return data | {"task": data["task"] | changed}


def test_text_that_only_looks_like_an_escaped_nul_is_accepted() -> None:
    title = "a\\u0000b"
    assert parse_task_event(json.dumps(envelope(data=with_task(title=title)))).data.task.title == title


def test_an_event_survives_the_way_out_and_back() -> None:
    event = parse_task_event(json.dumps(envelope(traceparent=TRACEPARENT)))
    assert parse_task_event(event.to_json()) == event


def test_the_envelope_has_every_attribute_a_consumer_without_dapr_needs() -> None:
    sent = TaskEvent.model_validate(envelope(traceparent=TRACEPARENT)).to_envelope()
    assert sent == envelope(traceparent=TRACEPARENT) | {"partitionkey": "7", "traceid": TRACEPARENT}


def test_without_a_trace_there_is_no_trace_attribute() -> None:
    sent = TaskEvent.model_validate(envelope()).to_envelope()
    assert "traceparent" not in sent
    assert "traceid" not in sent


def test_time_keeps_its_microseconds_and_is_utc() -> None:
    east = timezone(timedelta(hours=9))
    assert utc_text(datetime(2026, 3, 1, 0, 0, tzinfo=east)) == "2026-02-28T15:00:00.000000Z"


@pytest.mark.parametrize(
    "extra", [{"somethingnew": 1}, {"data": envelope()["data"] | {"later": True, "contract_version": "1.9"}}]
)
def test_unknown_fields_and_newer_minor_versions_are_accepted(extra: dict[str, object]) -> None:
    assert parse_task_event(json.dumps(envelope(**extra))).data.task.title == "Buy milk"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"data": envelope()["data"] | {"contract_version": "2.0"}}, "contract version 2.0"),
        ({"data": envelope()["data"] | {"contract_version": "one"}}, "contract_version"),
        ({"subject": "8"}, "subject 8 is not the task id 7"),
        ({"subject": "seven"}, "subject"),
        ({"specversion": "0.3"}, "specversion"),
        ({"type": "task.exploded"}, "type"),
        ({"time": "2026-03-01T08:30:00"}, "time"),
        ({"id": ""}, "id"),
        ({"data": None}, "data"),
        ({"data": with_task(version=2**63)}, "version"),
        ({"data": with_task(version=0)}, "version"),
        ({"data": with_task(title="a\x00b")}, "NUL"),
        ({"data": envelope()["data"] | {"changes": {"a\x00": {"old": None, "new": [{"b": 1}]}}}}, "NUL"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidEventError, match=named):
        parse_task_event(json.dumps(envelope(**changed)))


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"text"', b"\xff\xfe", "[" * 100_000])
def test_what_is_no_json_object_is_refused(body: str | bytes) -> None:
    with pytest.raises(InvalidEventError):
        parse_task_event(body)


def test_a_refusal_never_quotes_what_it_refuses() -> None:
    with pytest.raises(InvalidEventError) as refusal:
        parse_task_event(json.dumps(envelope(type="my secret", id=["hunter2"])))
    assert "secret" not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("traceparent", [None, TRACEPARENT])
def test_an_event_whose_data_was_stored_as_json_is_written_out_as_the_event_itself(traceparent: str | None) -> None:
    event = parse_task_event(json.dumps(envelope())).model_copy(update={"traceparent": traceparent})
    stored = encode_stored_event(
        event_id=event.id,
        event_type=event.type.value,
        subject=event.subject,
        time=event.time,
        traceparent=traceparent,
        data=event.data.model_dump_json(),
    )
    assert stored == event.encode()
    assert parse_task_event(stored.body) == event


def test_an_event_of_1_0_is_read_as_one_of_a_task_without_what_1_1_added() -> None:
    data = envelope()["data"]
    task = {
        name: data["task"][name] for name in data["task"] if name not in {"tags", "position", "parent_id", "recurrence"}
    }
    old = envelope(data=data | {"task": task, "contract_version": "1.0"}, dataschema="urn:taskwire:events:task:1.0")
    snapshot = parse_task_event(json.dumps(old)).data.task
    assert (snapshot.tags, snapshot.position, snapshot.parent_id, snapshot.recurrence) == ((), "", None, None)
