"""When a task is due and how it comes again, as a text says by a recurrence, a day and a time, or some of these."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, cast
from zoneinfo import ZoneInfo

from task_api.plain_words.dates import DATE, LAST_DAY, TIME, read_date, read_time
from task_api.plain_words.recurrences import RECURRENCE, Repeat, read_recurrence
from task_api.plain_words.scan import Scan
from task_api.tasks.recurrence import StoredRecurrence, next_occurrence, parse_rule

END_OF_DAY: Final = time(23, 59)
"""When a task is due of which only the day is said: it is not overdue as long as that day lasts."""


@dataclass(frozen=True)
class Due:
    """When a task is due, and how it comes again."""

    due_at: datetime | None
    recurrence: StoredRecurrence | None


def take_due(scan: Scan, *, time_zone: str, now: datetime, of_this_year: bool = False) -> Due:
    """Take out of a text what it says about that; the last of a kind counts.

    Args:
        scan: Of the text.
        time_zone: IANA name; days and times of day are those on the wall there.
        now: The moment of writing.
        of_this_year: Whether a day without a year is of this one, though it be past; else it is the coming one.
    """
    here = now.astimezone(ZoneInfo(time_zone))
    repeat = scan.last(RECURRENCE, "recurrence", read_recurrence)
    day = scan.last(DATE, "date", lambda found: read_date(found, here, of_this_year=of_this_year))
    at = scan.last(TIME, "time", read_time)
    due_at = _first(repeat, day, at, here)
    recurrence = _stored(repeat, time_zone)
    if recurrence is not None and next_occurrence(recurrence, due_at=due_at, completed_at=now) is None:
        scan.release("recurrence", "date", "time")
        return Due(None, None)  # at the end of time
    return Due(due_at, recurrence)


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
