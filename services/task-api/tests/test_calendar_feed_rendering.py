"""Tasks as iCalendar: read back by the `icalendar` package, and its time zones and rules by dateutil besides."""

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import icalendar
import pytest
from dateutil.rrule import rrulestr
from dateutil.tz import tzical
from hypothesis import given, settings
from hypothesis import strategies as st

from task_api.calendar_feeds.rendering import MAX_DESCRIPTION_CHARS, render
from task_api.calendar_feeds.repository import FeedTask
from task_api.calendar_feeds.schemas import Form
from task_api.tasks.recurrence import StoredRecurrence, next_occurrence

PARIS = "Europe/Paris"
MADE = datetime(2026, 11, 20, 8, 30, 15, 123456, tzinfo=UTC)
CHANGED = datetime(2026, 11, 21, 8, 30, 15, 654321, tzinfo=UTC)
DUE = datetime(2027, 3, 22, 8, tzinfo=UTC)  # nine in the morning in Paris, the Monday before clocks go forward


# What RFC 5545 has no place for.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def task(**more: object) -> FeedTask:
    fields: dict[str, Any] = {
        "id": 7, "title": "Buy milk", "description": None, "priority": "medium", "due_at": DUE, "completed_at": None,
        "tags": [], "recurrence": None, "version": 3, "created_at": MADE, "updated_at": CHANGED,
    }  # fmt: skip
    return FeedTask(**(fields | more))


def weekly(rule: str = "FREQ=WEEKLY;BYDAY=MO", **more: str) -> dict[str, str]:
    return {"rule": rule, "anchor": "due", "time_zone": PARIS} | more


def only(content: bytes) -> icalendar.Component:
    calendar = icalendar.Calendar.from_ical(content)
    (component,) = (one for one in calendar.subcomponents if one.name != "VTIMEZONE")
    assert component.errors == []
    return component


def test_a_todo_says_what_the_task_says() -> None:
    shown = task(title="Milk; two litres, blue\\white", description="line\nline", priority="high", tags=["a,b", "c"])
    content = render("Phone", [shown], "todos")
    assert content.startswith(b"BEGIN:VCALENDAR\r\n")
    lines = content.decode().replace("\r\n ", "").split("\r\n")
    assert {
        "VERSION:2.0", "PRODID:-//Taskwire//task-api//EN", "NAME:Phone", "X-WR-CALNAME:Phone",
        "REFRESH-INTERVAL;VALUE=DURATION:PT15M", "X-PUBLISHED-TTL:PT15M", "BEGIN:VTODO", "END:VTODO",
        "SUMMARY:Milk\\; two litres\\, blue\\\\white", "DESCRIPTION:line\\nline", "CATEGORIES:a\\,b,c", "PRIORITY:1",
        "DUE:20270322T080000Z", "DTSTAMP:20261121T083015Z", "LAST-MODIFIED:20261121T083015Z",
        "CREATED:20261120T083015Z", "SEQUENCE:2", "STATUS:NEEDS-ACTION",
    } <= set(lines)  # fmt: skip
    assert not [line for line in lines if line.startswith(("DTSTART", "COMPLETED", "RRULE", "BEGIN:VTIMEZONE"))]


def test_a_completed_todo_says_when() -> None:
    todo = only(render("x", [task(completed_at=CHANGED)], "todos"))
    assert (str(todo["status"]), todo.decoded("completed")) == ("COMPLETED", CHANGED.replace(microsecond=0))


def test_an_event_is_a_moment_that_makes_nobody_busy() -> None:
    event = only(render("x", [task(priority="low")], "events"))
    assert event.name == "VEVENT"
    assert (event.decoded("dtstart"), str(event["transp"]), event["priority"]) == (DUE, "TRANSPARENT", 9)
    assert not {"DTEND", "DUE", "STATUS", "COMPLETED"} & set(event)
    done = only(render("x", [task(completed_at=CHANGED)], "events"))
    assert str(done["summary"]) == "\u2713 Buy milk"


def test_the_uid_is_that_of_the_task_whatever_becomes_of_it() -> None:
    before = only(render("x", [task()], "todos"))["uid"]
    after = only(render("y", [task(title="y", due_at=MADE, version=9, updated_at=MADE, recurrence=weekly())], "todos"))
    assert after["uid"] == before
    others = [task(id=8), task(created_at=CHANGED)]
    uids = [only(render("x", [other], "todos"))["uid"] for other in others]
    uids.append(only(render("x", [task()], "events"))["uid"])
    assert len({before, *uids}) == 4


def test_a_long_description_is_cut_off() -> None:
    assert str(only(render("x", [task(description="x" * 500)], "todos"))["description"]) == "x" * MAX_DESCRIPTION_CHARS
    shown = str(only(render("x", [task(description="x" * 501)], "todos"))["description"])
    assert (len(shown), shown[-2:]) == (MAX_DESCRIPTION_CHARS, "x\u2026")


@settings(max_examples=400)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=200),
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=50), max_size=4),
    st.sampled_from(["todos", "events"]),
)
def test_any_text_comes_back_on_lines_of_75_bytes(title: str, tags: list[str], form: Form) -> None:
    content = render(title, [task(title=title, description=title, tags=tags)], form)
    content.decode()  # no character is split
    assert max(map(len, content.split(b"\r\n"))) <= 75
    assert not CONTROL.search(content.decode())
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    component = only(content)
    name = str(icalendar.Calendar.from_ical(content)["name"])  # which the package does not know to be text
    assert re.sub(r"\\(.)", r"\1", name) == " ".join(CONTROL.sub("", title).split())
    wanted = CONTROL.sub("", re.sub(r"\r\n?", "\n", title))
    assert (str(component["summary"]), str(component.get("description", ""))) == (wanted, wanted)
    assert component.get("categories", icalendar.vCategory([])).cats == [icalendar.vText(tag) for tag in tags]


def test_a_rule_goes_with_the_wall_time_of_its_zone() -> None:
    content = render("x", [task(recurrence=weekly())], "events")
    assert b"DTSTART;TZID=Europe/Paris:20270322T090000\r\n" in content
    assert b"RRULE:FREQ=WEEKLY;BYDAY=MO\r\n" in content
    calendar = icalendar.Calendar.from_ical(content)
    assert calendar.get_missing_tzids() == set()
    assert [str(zone["tzid"]) for zone in calendar.walk("VTIMEZONE")] == [PARIS]


@pytest.mark.parametrize(
    ("rule", "zone", "due_at"),
    [
        ("FREQ=WEEKLY;BYDAY=MO", PARIS, DUE),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH", PARIS, DUE),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", "America/New_York", datetime(2027, 1, 31, 14, tzinfo=UTC)),
        ("FREQ=DAILY;COUNT=30", "Australia/Lord_Howe", datetime(2027, 3, 25, 22, tzinfo=UTC)),
        ("FREQ=DAILY;UNTIL=20270410", PARIS, DUE),
        ("FREQ=DAILY;UNTIL=20270410T090000", PARIS, DUE),
        ("FREQ=DAILY;UNTIL=20270410T085959", PARIS, DUE),
        ("FREQ=DAILY;UNTIL=20270410T070000Z", PARIS, DUE),
        ("FREQ=DAILY;UNTIL=20270410T065959Z", PARIS, DUE),
        ("FREQ=MONTHLY;BYDAY=2TU", "UTC", datetime(2027, 1, 12, 9, tzinfo=UTC)),
        ("FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24", "Pacific/Apia", datetime(2026, 12, 24, 9, tzinfo=UTC)),
    ],
)
def test_a_calendar_counts_the_occurrences_that_the_service_makes(rule: str, zone: str, due_at: datetime) -> None:
    """The two walk the rule each for itself: dateutil with the time zone that is in the feed, and our own code."""
    recurrence = weekly(rule, time_zone=zone)
    content = render("x", [task(recurrence=recurrence, due_at=due_at)], "events").decode()
    event = only(content.encode())
    start = event.decoded("dtstart")
    here = UTC if zone == "UTC" else tzical(io.StringIO(without_comments(content))).get(zone)
    found = rrulestr(re.findall(r"RRULE:(.*)\r\n", content)[0], dtstart=start.replace(tzinfo=here))
    shown = [moment.astimezone(UTC) for _, moment in zip(range(20), found, strict=False)]
    assert shown == occurrences(recurrence, due_at, len(shown) if len(shown) == 20 else 40)


def without_comments(content: str) -> str:
    return re.sub(r"COMMENT:.*\r\n", "", content)


def occurrences(recurrence: dict[str, str], due_at: datetime, limit: int) -> list[datetime]:
    """Complete the task again and again, each time in time."""
    moments, stored = [due_at], StoredRecurrence(**recurrence)  # type: ignore[typeddict-item]
    while len(moments) < limit:
        found = next_occurrence(stored, due_at=moments[-1], completed_at=moments[-1] - timedelta(hours=1))
        if found is None:
            break
        moments.append(found.due_at)
        stored = found.recurrence
    return moments


def test_a_recurring_todo_starts_with_its_day_and_is_due_later() -> None:
    todo = only(render("x", [task(recurrence=weekly())], "todos"))
    paris = ZoneInfo(PARIS)
    assert todo.decoded("dtstart") == datetime(2027, 3, 22, tzinfo=paris)
    assert todo.decoded("due") == datetime(2027, 3, 22, 9, tzinfo=paris)
    assert b"DUE;TZID=Europe/Paris:20270322T090000" in todo.to_ical()


def test_what_is_due_as_its_day_begins_has_no_later_due() -> None:
    todo = only(render("x", [task(recurrence=weekly(), due_at=datetime(2027, 3, 21, 23, tzinfo=UTC))], "todos"))
    assert todo.decoded("dtstart") == datetime(2027, 3, 22, tzinfo=ZoneInfo(PARIS))
    assert "due" not in todo


def test_what_comes_again_after_its_completion_has_no_rule() -> None:
    content = render("x", [task(recurrence=weekly(anchor="completion"))], "todos")
    assert not re.search(b"RRULE|VTIMEZONE|DTSTART", content)
    assert b"DUE:20270322T080000Z\r\n" in content


def test_every_time_zone_can_be_told() -> None:
    for zone in sorted(available_timezones())[::12]:  # all 598 were tried once, for 24 seconds
        content = render("x", [task(recurrence=weekly(time_zone=zone))], "events")
        calendar = icalendar.Calendar.from_ical(content)
        assert calendar.get_missing_tzids() == set(), zone
        (event,) = calendar.walk("VEVENT")
        assert event.decoded("dtstart").astimezone(UTC) == DUE, zone


def test_a_zone_is_told_once_and_before_the_tasks() -> None:
    content = render("x", [task(recurrence=weekly()), task(id=8, recurrence=weekly())], "todos")
    assert content.count(b"BEGIN:VTIMEZONE") == 1
    assert content.index(b"END:VTIMEZONE") < content.index(b"BEGIN:VTODO")
