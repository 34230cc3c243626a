"""Quick add on any text: it never fails, accounts for every character, and is right when clocks change."""

import re
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from task_api.quick_add.parser import Reading, read
from task_api.quick_add.schemas import MAX_TEXT_CHARS
from task_api.quick_add.service import _draft
from task_api.tasks.consequences import check_recurrence
from task_api.tasks.models import Task
from task_api.tasks.schemas import EARLIEST_DUE, LATEST_DUE, MAX_TITLE_CHARS, RecurrenceIn, TaskCreate

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu")
LINE = (
    "pay rent I may call every every! other last first 1st 2nd 15th 31st day days week month year weekday mon tuesday "
    "wed, and & on the of next this in a two 3 12 999 at 9am 12pm 9:30 17:30 noon today tomorrow 24 29 feb dec 2026 "
    '2199 2026-12-24 2199-12-30 starting due by #home #Größe #1 # ! !high p1 p9 \\ \\every \\\\ " "tomorrow" ( ) , . '
    "\u00a0 \u2003 😀 שלום \u017funday \u212ane İ ß"
)
WORDS = re.split(" ", LINE)  # not str.split(), which would take other spaces for its own
phrases = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
anything = st.characters(codec="utf-8", exclude_characters="\x00")
texts = st.one_of(
    phrases,
    st.text(anything, max_size=60),
    st.tuples(phrases, st.text(anything, max_size=9)).map("".join),
)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2150, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(ZONES)


@settings(max_examples=1500)
@given(texts, zones, moments)
def test_any_text_is_read_and_accounted_for(text: str, zone: str, now: datetime) -> None:
    found = read(text, time_zone=zone, now=now)
    assert found == read(text, time_zone=zone, now=now)
    ends = [0]
    for part in found.parts:
        assert ends[-1] <= part.start < part.end <= len(text)
        assert text[part.start : part.end].strip() == text[part.start : part.end]
        ends.append(part.end)
    left = list(text)
    for part in found.parts:
        left[part.start : part.end] = [""] * (part.end - part.start)
    assert without_spaces(found.title) == without_spaces("".join(left)), "but for backslashes, nothing is lost or made"
    if not found.parts and "\\" not in text:
        assert found.title == " ".join(text.split())


def without_spaces(text: str) -> str:
    return "".join(text.replace("\\", "").split())


@settings(max_examples=1000)
@given(texts, zones, moments)
def test_whatever_was_read_is_a_task_that_may_be_created(text: str, zone: str, now: datetime) -> None:
    found = read(text, time_zone=zone, now=now)
    if not 1 <= len(found.title) <= MAX_TITLE_CHARS:
        return
    draft = _draft(found)
    assert isinstance(draft, TaskCreate)
    if found.due_at is not None:
        assert EARLIEST_DUE <= found.due_at < LATEST_DUE
    if found.recurrence is not None:
        assert found.due_at is not None
        assert RecurrenceIn.model_validate(found.recurrence).rule == found.recurrence["rule"]
    values = draft.model_dump()
    check_recurrence(Task(owner_id="a", position="0", created_at=now, updated_at=now, **values), now=now)


@settings(max_examples=500)
@given(texts, moments)
def test_a_title_escaped_word_by_word_comes_back(text: str, now: datetime) -> None:
    title = read(text, time_zone="UTC", now=now).title
    escaped = " ".join("\\" + word for word in title.split())
    again = read(escaped, time_zone="UTC", now=now)
    assert (again.title, again.parts) == (title, ())


@settings(max_examples=500)
@given(st.sampled_from(["every day at 02:30", "every mon, wed and fri 02:30", "at 02:30", "every 1st 02:30"]), zones,
       moments)  # fmt: skip
def test_a_time_of_day_without_a_day_is_the_next_such_time_on_the_wall(text: str, zone: str, now: datetime) -> None:
    due_at = due(read(text, time_zone=zone, now=now))
    assert now < due_at
    wall = due_at.astimezone(ZoneInfo(zone))
    # Half past two; later where the clocks skip it on that day (by half an hour on Lord Howe Island).
    skipped = wall.replace(hour=2, minute=30, fold=0).astimezone(UTC).astimezone(ZoneInfo(zone))
    assert wall.replace(fold=0) == skipped.replace(fold=0)


def due(found: Reading) -> datetime:
    assert found.due_at is not None
    return found.due_at


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        # Clocks in Paris go forward on 2027-03-28 at 02:00 and back on 2027-10-31 at 03:00.
        ("tomorrow 9am", "2027-03-27T12:00:00+01:00", "2027-03-28T07:00:00Z"),
        ("tomorrow 9am", "2027-10-30T12:00:00+02:00", "2027-10-31T08:00:00Z"),
        ("tomorrow 02:30", "2027-03-27T12:00:00+01:00", "2027-03-28T01:30:00Z"),
        ("tomorrow 02:30", "2027-10-30T12:00:00+02:00", "2027-10-31T00:30:00Z"),
        ("in 2 hours", "2027-03-28T01:30:00+01:00", "2027-03-28T02:30:00Z"),
        ("in 30 minutes", "2027-10-31T02:15:00+01:00", "2027-10-31T01:45:00Z"),
        ("every day 02:30", "2027-10-31T02:15:00+01:00", "2027-11-01T01:30:00Z"),
        ("today", "2026-11-18T23:30:00Z", "2026-11-19T22:59:00Z"),  # it is the 19th in Paris
    ],
)
def test_days_and_times_are_those_on_the_writers_wall(text: str, now: str, expected: str) -> None:
    found = read(text, time_zone="Europe/Paris", now=datetime.fromisoformat(now))
    assert found.due_at == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    [
        "every mon, " * 60, "#" * 500, "\\" * 500, '"' * 500, "every " * 83, "in 1 " * 100, "24 dec " * 71,
        "every 1st, 2nd, 3rd, " * 24, " " * 499 + "x", "at " * 166, "!high " * 83, "next " * 100, "#a" * 250, "(" * 500,
    ],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()  # of this process alone, however busy the machine is
    read(text[:MAX_TEXT_CHARS], time_zone="Europe/Paris", now=datetime(2026, 11, 18, tzinfo=UTC))
    assert time.process_time() - started < 2  # measured: at most 7 ms
