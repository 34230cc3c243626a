"""Reads a line: takes what it understands out of it, and leaves the rest for the title. Never fails."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, cast
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from task_api.quick_add.dates import DATE, LAST_DAY, TIME, read_date, read_time
from task_api.quick_add.recurrences import RECURRENCE, Repeat, read_recurrence
from task_api.quick_add.scan import Part, Scan, phrase
from task_api.tasks.models import Priority
from task_api.tasks.recurrence import StoredRecurrence, next_occurrence, parse_rule
from task_api.tasks.schemas import MAX_TAGS, Tag

END_OF_DAY: Final = time(23, 59)
"""When a task is due of which only the day is said: it is not overdue as long as that day lasts."""
# A tag begins with `#` and has a letter: `#1` is a number. What follows it as punctuation is not part of it.
_TAG: Final = phrase(r"#(?P<tag>[^\s#\x00]*?[^\s#\x00,.;:!?)\]])")
_PRIORITY: Final = phrase("!(?P<word>high|medium|low)|p(?P<number>[123])")
_PRIORITIES: Final[dict[str, Priority]] = {
    "high": "high", "medium": "medium", "low": "low", "1": "high", "2": "medium", "3": "low",
}  # fmt: skip
_tag: Final[TypeAdapter[str]] = TypeAdapter(Tag)


@dataclass(frozen=True)
class Reading:
    """What a line says.

    Attributes:
        parts: What was understood, in the order of the text.
        title: What was not.
    """

    parts: tuple[Part, ...]
    title: str
    priority: Priority
    tags: tuple[str, ...]
    due_at: datetime | None
    recurrence: StoredRecurrence | None


def read(text: str, *, time_zone: str, now: datetime) -> Reading:
    """Read a line.

    Args:
        text: Any text.
        time_zone: IANA name; days and times of day are those on the wall there.
        now: The moment of writing.
    """
    scan, here = Scan(text), now.astimezone(ZoneInfo(time_zone))
    repeat = scan.last(RECURRENCE, "recurrence", read_recurrence)
    day = scan.last(DATE, "date", lambda found: read_date(found, here))
    at = scan.last(TIME, "time", read_time)
    due_at = _first(repeat, day, at, here)
    recurrence = _stored(repeat, time_zone)
    if recurrence is not None and next_occurrence(recurrence, due_at=due_at, completed_at=now) is None:
        due_at = recurrence = None  # at the end of time
        scan.release("recurrence", "date", "time")
    tags = _take_tags(scan)
    priority: Priority | None = scan.last(_PRIORITY, "priority", _read_priority)
    parts = tuple(sorted(scan.parts, key=lambda part: part.start))
    return Reading(parts, scan.title(), priority or "medium", tags, due_at, recurrence)


def _read_priority(found: re.Match[str]) -> Priority:
    return _PRIORITIES[found["word"] or found["number"]]


def _take_tags(scan: Scan) -> tuple[str, ...]:
    tags: dict[str, None] = {}

    def take(found: re.Match[str]) -> str | None:
        written = scan.written(*found.span("tag"))
        try:
            tag = _tag.validate_python(written)
        except ValidationError:
            return None
        if not any(character.isalpha() for character in tag) or (tag not in tags and len(tags) == MAX_TAGS):
            return None
        tags[tag] = None
        return tag

    scan.every(_TAG, "tag", take)
    return tuple(tags)


def _first(repeat: Repeat | None, day: date | datetime | None, at: time | None, now: datetime) -> datetime | None:
    """Give the moment at which the task is due first; `now` is in the time zone of the writer."""
    if isinstance(day, datetime):  # in two hours
        if at is None and repeat is None:
            return day.astimezone(UTC)
        at = at or day.time()
        day = day.date()
    if day is None and at is None and repeat is None:
        return None
    start = datetime.combine(day or now.date(), at or END_OF_DAY)
    if repeat is not None and repeat.names_a_day:
        return _on_a_day_of(repeat, start, now.tzinfo, after=now if day is None else None)
    due_at = _moment(start, now.tzinfo)
    return due_at if day is not None or due_at > now else _moment(start + timedelta(days=1), now.tzinfo)


def _on_a_day_of(repeat: Repeat, start: datetime, zone: tzinfo | None, *, after: datetime | None) -> datetime:
    """Give the first day that the rule names; every how many weeks or months counts from then on."""
    rule = parse_rule(";".join(f"{name}={value}" for name, value in repeat.parts))
    found = rule.after(start, start - timedelta(microseconds=1))
    while found is not None and after is not None and _moment(found, zone) <= after:  # once: later today is past
        found = rule.after(start, found)
    return _moment(found or datetime.combine(LAST_DAY, start.time()), zone)


def _moment(wall: datetime, zone: tzinfo | None) -> datetime:
    """Give the moment of a wall time: one that is skipped comes an hour later, one that happens twice is the first."""
    return wall.replace(tzinfo=zone).astimezone(UTC)


def _stored(repeat: Repeat | None, time_zone: str) -> StoredRecurrence | None:
    if repeat is None:
        return None
    return cast("StoredRecurrence", {"rule": repeat.rule, "anchor": repeat.anchor, "time_zone": time_zone})
