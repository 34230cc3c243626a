"""What is read from a dead letter, whatever it is, and how a failure is put in words."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from chassis.dead_letters.envelope import as_json, attributes_of, origin_of, original_body
from chassis.dead_letters.reasons import describe_failure, storable
from chassis.dead_letters.repository import Origin
from chassis.testing import make_task_event
from task_events import InvalidEventError


@given(st.binary(max_size=200))
def test_the_original_bytes_come_out_as_they_went_in(body: bytes) -> None:
    wrapper = json.dumps({"specversion": "1.0", "data_base64": base64.b64encode(body).decode()}).encode()
    assert original_body(wrapper) == body


@pytest.mark.parametrize("delivery", [b"", b"{", b"[]", b"{}", b'{"data_base64": 7}', b'{"data_base64": "?"}', b"\xff"])
def test_a_delivery_of_another_form_is_kept_as_it_is(delivery: bytes) -> None:
    assert original_body(delivery) == delivery


def test_the_headers_tell_which_record_it_was() -> None:
    headers = {"__topic": "tasks", "__partition": "3", "__offset": "1207"}
    assert origin_of(headers, topic="x.dead-letters") == Origin("tasks", 3, 1207)


@pytest.mark.parametrize("offset", ["", "-1", "x", "1.5", "٣", "9" * 19, "9" * 5000])
def test_headers_that_make_no_sense_hide_nothing(offset: str) -> None:
    assert origin_of({"__offset": offset}, topic="x.dead-letters") == Origin("x.dead-letters", -1, -1)


def test_the_attributes_of_an_event_are_read_though_its_data_cannot_be() -> None:
    body = json.dumps(make_task_event(7).to_envelope() | {"id": "e-1", "data": None}).encode()
    assert attributes_of(body) == {"event_id": "e-1", "event_type": "task.created", "subject": "7"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'{"id": 7}', b'{"id": null}', b"\xff\xfe"])
def test_what_is_no_event_has_no_attributes(body: bytes) -> None:
    assert attributes_of(body) == {"event_id": None, "event_type": None, "subject": None}


@pytest.mark.parametrize(
    "body",
    [b"NaN", b"[Infinity]", b"1e999", b'"\\ud800"', b"[" * 100_000, b"\xff", b"", b"9" * 5000, b'{"a": }'],
)
def test_what_could_not_be_sent_on_as_json_counts_as_bytes(body: bytes) -> None:
    assert as_json(body) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")), st.lists))
def test_json_is_given_as_json(value: object) -> None:
    assert as_json(json.dumps(value).encode()) == value


class _DriverError(Exception):
    """What SQLAlchemy's adapter raises around the driver's own error."""


def test_a_failure_in_the_database_is_told_without_statement_and_row() -> None:
    original = _DriverError("<class 'UniqueViolation'>: taken\nDETAIL: secret")
    original.__cause__ = ValueError("taken\nDETAIL: secret")
    assert describe_failure(IntegrityError("INSERT secret", {"a": "secret"}, original)) == "ValueError: taken"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (TimeoutError(), "TimeoutError: the handler did not finish in time"),
        (InvalidEventError("not a task event: id: missing"), "not a task event: id: missing"),
        (ValueError("a\x00b"), "ValueError: a\ufffdb"),
    ],
)
def test_a_failure_is_told_in_one_line(error: Exception, reason: str) -> None:
    assert describe_failure(error) == reason


def test_a_text_is_made_storable() -> None:
    assert storable("\ud800\x00") == "?\ufffd"
    assert storable("x" * 600) == "x" * 499 + "…"
