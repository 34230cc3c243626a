"""What happened, in words."""

import pytest
from pydantic import JsonValue

from chassis.testing import make_task_event
from notifier.inbox.wording import details, headline, shortened
from task_events import TaskEventType


@pytest.mark.parametrize("kind", TaskEventType)
def test_every_type_has_a_headline(kind: TaskEventType) -> None:
    verb = kind.value.removeprefix("task.")
    assert headline(make_task_event(1, 2, kind)) == f"Task {verb}: “Buy milk”"


def test_a_long_title_is_shortened_in_the_headline() -> None:
    text = headline(make_task_event(title="word " * 100))
    assert text.endswith(" word…”")
    assert len(text) < 110


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("exactly ten"[:10], "exactly te"),
        ("several  spaces\tand\nlines", "several…"),
        ("a b\x00\x07\x1bc", "a b c"),
        ("one two three", "one two…"),
        ("one two, three", "one two…"),
        ("several x more", "several x…"),
        ("one twothree", "one twoth…"),
        ("indivisible", "indivisib…"),
        ("a\u202eb\u2066c", "abc"),
        ("", ""),
    ],
)
def test_a_text_is_cut_between_words_where_that_loses_little(text: str, expected: str) -> None:
    assert shortened(text, 10) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12345678e\u0301xx", "12345678…"),
        ("1234567👩\u200d💻xx", "1234567…"),
        ("12345678👍\U0001f3fdxx", "12345678…"),
        ("\u0301" * 12, "\u0301" * 9 + "…"),
    ],
)
def test_a_cut_never_splits_what_is_seen_as_one_character(text: str, expected: str) -> None:
    assert shortened(text, 10) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"title": ("Buy bread", "Buy milk")}, "Title: “Buy bread” → “Buy milk”"),
        ({"priority": ("low", "high")}, "Priority: low → high"),
        ({"due_at": (None, "2026-03-01T10:00:00+01:00")}, "Due: none → 1 March 2026, 09:00 UTC"),
        ({"due_at": ("2026-12-24T18:30:00Z", None)}, "Due: 24 December 2026, 18:30 UTC → none"),
        ({"due_at": ("soon", 7)}, "Due: soon → 7"),
        ({"due_at": ("0001-01-01T00:00:00+10:00", None)}, "Due: 0001-01-01T00:00:00+10:00 → none"),
        ({"description": (None, "x")}, "Description added"),
        ({"description": ("x", None)}, "Description removed"),
        ({"description": ("x", "y")}, "Description changed"),
        ({"time_zone": ("x", "y")}, "Time zone changed"),
        ({"completed": (False, True), "completed_at": (None, "2026-03-01T10:00:00Z")}, None),
        ({"completed": (False, True), "priority": ("low", "high")}, "Priority: low → high"),
        ({"priority": ("low", "high"), "tags": ([], ["a"])}, "Priority: low → high\nTags changed"),
    ],
)
def test_the_body_tells_what_the_headline_does_not(
    changes: dict[str, tuple[JsonValue, JsonValue]], expected: str | None
) -> None:
    assert details(make_task_event(1, 2, TaskEventType.UPDATED, changes=changes)) == expected


def test_a_new_task_needs_no_list_of_its_fields() -> None:
    assert details(make_task_event(1, 1, changes={"title": (None, "Buy milk"), "priority": (None, "low")})) is None
