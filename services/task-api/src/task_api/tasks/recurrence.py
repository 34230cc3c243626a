"""When a recurring task comes again: RRULE of RFC 5545, in local times of the owner's time zone.

Rules are walked by dateutil on the wall clock and only the result becomes a moment, so "every day at nine" stays at
nine when clocks change. A wall time that is skipped comes an hour later, one that happens twice at its first.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import lru_cache
from typing import Final, Literal, NotRequired, TypedDict
from zoneinfo import ZoneInfo, available_timezones

from dateutil.rrule import rrulestr
from typing_extensions import override

Anchor = Literal["due", "completion"]
MAX_RULE_CHARS: Final = 200
MAX_INTERVAL: Final = 100
MAX_COUNT: Final = 1_000
END_OF_TIME: Final = datetime(2200, 1, 1, tzinfo=UTC)
# The Gregorian calendar repeats after 400 years, days of the week included. Rules are walked so many years later,
# because dateutil looks for an occurrence until the year 9999: for a rule that has none, that is seconds from here
# and milliseconds from there.
_LATER: Final = 400 * 19
_SIGNED_DAY: Final = r"[+-]?(?:[1-9]|[12]\d|3[01])"
_WEEKDAY: Final = "(?:MO|TU|WE|TH|FR|SA|SU)"
_PARTS: Final = {
    "FREQ": "DAILY|WEEKLY|MONTHLY|YEARLY",
    "INTERVAL": r"[1-9]\d{0,8}",
    "COUNT": r"[1-9]\d{0,8}",
    "UNTIL": r"\d{8}(?:T\d{6}Z?)?",
    "BYDAY": rf"(?:[+-]?[1-5])?{_WEEKDAY}(?:,(?:[+-]?[1-5])?{_WEEKDAY})*",
    "BYMONTHDAY": f"{_SIGNED_DAY}(?:,{_SIGNED_DAY})*",
    "BYMONTH": r"(?:[1-9]|1[0-2])(?:,(?:[1-9]|1[0-2]))*",
    "BYSETPOS": f"{_SIGNED_DAY}(?:,{_SIGNED_DAY})*",
    "WKST": _WEEKDAY,
}


class StoredRecurrence(TypedDict):
    """A recurrence as it lies in the database.

    Attributes:
        at: The wall time that is meant, kept when the clocks skipped it on the day of the due date.
    """

    rule: str
    anchor: str
    time_zone: str
    at: NotRequired[str]


@dataclass(frozen=True)
class Rule:
    """A rule in its parts; count and end are ours to watch, the rest is walked by dateutil."""

    parts: tuple[tuple[str, str], ...]

    @property
    def count(self) -> int | None:
        """How many tasks there are to be, the current one included."""
        count = dict(self.parts).get("COUNT")
        return None if count is None else int(count)

    @override
    def __str__(self) -> str:
        return ";".join(f"{name}={value}" for name, value in self.parts)

    def next_one(self) -> "Rule":
        """Give the rule of the next task: with a count, one less."""
        left = None if self.count is None else str(self.count - 1)
        return Rule(tuple((name, left if name == "COUNT" and left else value) for name, value in self.parts))

    def after(self, start: datetime, limit: datetime) -> datetime | None:
        """Give the first occurrence after `limit` of the rule that starts at `start`, all of them wall times."""
        if self.count == 1:
            return None
        walked = ";".join(f"{name}={value}" for name, value in self.parts if name not in {"COUNT", "UNTIL"})
        found = rrulestr(walked, dtstart=_shifted(start, _LATER)).after(_shifted(limit, _LATER))
        return None if found is None or found.year - _LATER >= END_OF_TIME.year else _shifted(found, -_LATER)

    def ends_before(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Tell whether UNTIL is before a moment; without Z, it is a wall time, and a date is all of its day."""
        text = dict(self.parts).get("UNTIL")
        if text is None:
            return False
        if text.endswith("Z"):
            return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) < moment
        wall = moment.astimezone(zone)
        return text < wall.strftime("%Y%m%d" if len(text) == len("20270131") else "%Y%m%dT%H%M%S")


@lru_cache(maxsize=1024)
def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        ValueError: With words for the caller.
    """
    parts: dict[str, str] = {}
    for part in text.upper().removeprefix("RRULE:").removesuffix(";").split(";"):
        name, _, value = part.partition("=")
        if name not in _PARTS:
            raise ValueError(f"may have the parts {', '.join(_PARTS)}, as in FREQ=WEEKLY;BYDAY=MO,TH")
        if name in parts:
            raise ValueError(f"must not have {name} twice")
        if not re.fullmatch(_PARTS[name], value, re.ASCII):
            raise ValueError(f"has a value of {name} that is not possible" + _hint(name))
        parts[name] = value
    _check_together(parts)
    return Rule(tuple(parts.items()))


def _hint(name: str) -> str:
    return ": DAILY, WEEKLY, MONTHLY or YEARLY" if name == "FREQ" else ""


def _check_together(parts: dict[str, str]) -> None:
    if "FREQ" not in parts:
        raise ValueError("needs FREQ: DAILY, WEEKLY, MONTHLY or YEARLY")
    for name, largest in (("INTERVAL", MAX_INTERVAL), ("COUNT", MAX_COUNT)):
        if int(parts.get(name, 1)) > largest:
            raise ValueError(f"may have an {name} of at most {largest}".replace("an COUNT", "a COUNT"))
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("must not have both COUNT and UNTIL")
    if parts["FREQ"] in {"DAILY", "WEEKLY"} and not parts.keys().isdisjoint({"BYMONTHDAY", "BYSETPOS"}):
        raise ValueError("may have BYMONTHDAY and BYSETPOS with MONTHLY and YEARLY only")
    if parts["FREQ"] in {"DAILY", "WEEKLY"} and re.search(r"\d", parts.get("BYDAY", "")):
        raise ValueError("may number the days of BYDAY with MONTHLY and YEARLY only")
    if "BYSETPOS" in parts and "BYDAY" not in parts and "BYMONTHDAY" not in parts:
        raise ValueError("may have BYSETPOS only with BYDAY or BYMONTHDAY")
    if "UNTIL" in parts:
        _check_until(parts["UNTIL"])


def _check_until(text: str) -> None:
    try:
        datetime.strptime(text.removesuffix("Z"), "%Y%m%dT%H%M%S" if "T" in text else "%Y%m%d")  # noqa: DTZ007
    except ValueError as error:
        raise ValueError("has a value of UNTIL that is no date") from error


def known_time_zone(name: str) -> bool:
    """Tell whether there is such a time zone."""
    return name in _time_zones()


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


@dataclass(frozen=True)
class Occurrence:
    """When a task comes again, and the recurrence that it then has."""

    due_at: datetime
    recurrence: StoredRecurrence


def next_occurrence(
    recurrence: StoredRecurrence, *, due_at: datetime | None, completed_at: datetime
) -> Occurrence | None:
    """Give the next occurrence of a task completed now, or None after the last.

    Counted from the due date, it is the first after both the due date and now: what was missed does not pile up.
    Counted from the completion, the rule starts on the day of the completion, at the time of day of the due date.
    """
    zone, rule = ZoneInfo(recurrence["time_zone"]), parse_rule(recurrence["rule"])
    now = completed_at.astimezone(zone).replace(tzinfo=None)
    wall = now if due_at is None else _meant(due_at, zone, recurrence.get("at"))
    if recurrence["anchor"] == "due":
        found = rule.after(wall, max(wall, now))
    else:
        start = datetime.combine(now.date(), wall.time())
        found = rule.after(start, max(start, now))
    if found is None:
        return None
    due = _moment(found, zone)
    if due >= END_OF_TIME or rule.ends_before(due, zone):
        return None
    following: StoredRecurrence = {
        "rule": str(rule.next_one()),
        "anchor": recurrence["anchor"],
        "time_zone": recurrence["time_zone"],
    }
    if due.astimezone(zone).replace(tzinfo=None) != found:
        following["at"] = found.time().isoformat()
    return Occurrence(due, following)


def _meant(due_at: datetime, zone: ZoneInfo, at: str | None) -> datetime:
    """Give the wall time that is meant by a due date; `at` counts while the due date is that it was kept for."""
    wall = due_at.astimezone(zone).replace(tzinfo=None)
    if at is not None:
        meant = datetime.combine(wall.date(), time.fromisoformat(at))
        if _moment(meant, zone) == due_at:
            return meant
    return wall


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    return wall.replace(tzinfo=zone).astimezone(UTC)


def _shifted(moment: datetime, years: int) -> datetime:
    return moment.replace(year=moment.year + years)
