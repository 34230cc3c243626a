"""Tasks as iCalendar (RFC 5545, RFC 7986), made by the `icalendar` package."""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from icalendar import Calendar, Component, Event, Timezone, Todo, vRecur, vText

from task_api.calendar_feeds.repository import FeedTask
from task_api.calendar_feeds.schemas import Form

FORM_OF_FEEDS: Final = 1
"""To be counted up when a task is shown in another way: it is part of every ETag."""
MAX_DESCRIPTION_CHARS: Final = 500
REFRESH: Final = timedelta(minutes=15)
_PRODID: Final = "-//Taskwire//task-api//EN"
_PRIORITIES: Final = {"high": 1, "medium": 5, "low": 9}
_UIDS: Final = uuid.UUID("6f0b5c1e-5d0c-4a6b-9a3e-0f6f2f0c9d57")
# What a time zone does is told for these years; beyond them it stays as it was last.
_ZONES_FROM, _ZONES_TO = date(2000, 1, 1), date(2060, 1, 1)
# RFC 5545 has no place for control characters, escaped or not, but for tabs and the ends of lines.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def render(name: str, tasks: Sequence[FeedTask], form: Form) -> bytes:
    """Make the calendar. Half a second for a thousand tasks: not for the event loop."""
    calendar = Calendar()
    calendar.add("prodid", _PRODID)
    calendar.add("version", "2.0")
    for name_of_calendar in ("name", "x-wr-calname"):
        calendar.add(name_of_calendar, vText(" ".join(_text(name).split())))  # else it would not be escaped
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", "PT15M")
    shown = [_todo(task) if form == "todos" else _event(task) for task in tasks]
    zones = {task.recurrence["time_zone"] for task in tasks if _recurs_by_calendar(task) and task.recurrence}
    for zone in sorted(zones - {"UTC"}):
        calendar.add_component(_time_zone(zone))
    for component in shown:
        calendar.add_component(component)
    content: bytes = calendar.to_ical()
    return content


def _todo(task: FeedTask) -> Todo:
    todo = Todo()
    _describe(todo, task, "todo")
    todo.add("summary", _text(task.title))
    due = _due(task)
    if _recurs_by_calendar(task):
        # A rule needs DTSTART, and DUE must be later: so it starts with its day. What is due as its day begins has
        # no DUE, and by RFC 5545 is to be done at its start.
        midnight = datetime.combine(due.date(), time(), due.tzinfo)
        todo.add("dtstart", midnight)
        if due.replace(tzinfo=None) != midnight.replace(tzinfo=None):
            todo.add("due", due)
    else:
        todo.add("due", due)
    todo.add("status", "NEEDS-ACTION" if task.completed_at is None else "COMPLETED")
    if task.completed_at is not None:
        todo.add("completed", task.completed_at.astimezone(UTC))
    return todo


def _event(task: FeedTask) -> Event:
    event = Event()
    _describe(event, task, "event")
    event.add("summary", _text(task.title if task.completed_at is None else f"\u2713 {task.title}"))
    event.add("dtstart", _due(task))  # without an end: a moment
    event.add("transp", "TRANSPARENT")  # a task makes nobody busy
    return event


def _describe(component: Component, task: FeedTask, kind: str) -> None:
    # Of the id and the moment of creation: the same in all feeds, for ever, and not that of another installation.
    component.add("uid", str(uuid.uuid5(_UIDS, f"{kind} {task.id} {task.created_at.astimezone(UTC).isoformat()}")))
    component.add("dtstamp", task.updated_at.astimezone(UTC))  # RFC 5545, 3.8.7.2: without METHOD, the last revision
    component.add("created", task.created_at.astimezone(UTC))
    component.add("last-modified", task.updated_at.astimezone(UTC))
    component.add("sequence", task.version - 1)
    component.add("priority", _PRIORITIES[task.priority])
    if task.description:
        text = task.description
        text = text if len(text) <= MAX_DESCRIPTION_CHARS else text[: MAX_DESCRIPTION_CHARS - 1] + "\u2026"
        component.add("description", _text(text))
    if task.tags:
        component.add("categories", [_text(tag) for tag in task.tags])
    if _recurs_by_calendar(task) and task.recurrence is not None:
        component.add("rrule", vRecur.from_ical(_with_end_in_utc(task.recurrence)))


def _recurs_by_calendar(task: FeedTask) -> bool:
    """Tell whether it is known when the task comes again; from the completion on, it is not."""
    return task.recurrence is not None and task.recurrence["anchor"] == "due"


def _due(task: FeedTask) -> datetime:
    """Give the due date in the time zone that the rule is about; in UTC, which nobody can misread, without a rule."""
    if _recurs_by_calendar(task) and task.recurrence is not None and task.recurrence["time_zone"] != "UTC":
        return task.due_at.astimezone(ZoneInfo(task.recurrence["time_zone"]))
    return task.due_at.astimezone(UTC)


def _with_end_in_utc(recurrence: dict[str, str]) -> str:
    """Give the rule with UNTIL as RFC 5545 wants it beside a DTSTART with time zone; ours may be wall time."""
    rule = recurrence["rule"]
    until = re.search(r"UNTIL=(\d{8})(?:T(\d{6}))?(?=;|$)", rule)
    if until is None:
        return rule
    day, clock = until.groups(default="235959")  # all of its day
    wall = datetime.strptime(day + clock, "%Y%m%d%H%M%S").replace(tzinfo=ZoneInfo(recurrence["time_zone"]))
    return rule.replace(until[0], f"UNTIL={wall.astimezone(UTC):%Y%m%dT%H%M%SZ}")


@lru_cache(maxsize=1024)  # all there are: making one takes 5 ms
def _time_zone(name: str) -> Timezone:
    return Timezone.from_tzinfo(ZoneInfo(name), name, first_date=_ZONES_FROM, last_date=_ZONES_TO)


def _text(value: str) -> str:
    return _CONTROL.sub("", value)
