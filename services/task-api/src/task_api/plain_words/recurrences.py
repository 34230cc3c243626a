"""Phrases that say how a task comes again: `every …`, as RRULE."""

import re
from dataclasses import dataclass
from typing import Final

from task_api.plain_words.scan import phrase
from task_api.plain_words.words import (
    ANY_WEEKDAY,
    DAY_OF_MONTH,
    MONTH,
    NTH,
    NUMBER,
    ORDINAL,
    WEEKDAYS,
    month_of,
    nth_of,
    number_of,
    weekday_of,
)
from task_api.tasks.recurrence import MAX_INTERVAL, Anchor

_AND: Final = "(?: ?, and | ?, ?| and | ?& ?)"
_DAYS_OF_WEEK: Final = f"{ANY_WEEKDAY}s?(?:{_AND}{ANY_WEEKDAY}s?)*"
_DAYS_OF_MONTH: Final = f"{ORDINAL}(?:{_AND}{ORDINAL})*"
_OF_THE_MONTH: Final = "of (?:the|each|every) month"
_FREQUENCIES: Final = {"day": "DAILY", "week": "WEEKLY", "month": "MONTHLY", "year": "YEARLY"}
_LONGEST_MONTHS: Final = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}

_DAY_OF_MONTH: Final = (
    f"(?P<nth>{NTH}) (?P<nth_day>{ANY_WEEKDAY})(?: {_OF_THE_MONTH})?"
    f"|(?P<last>last day)(?: {_OF_THE_MONTH})?"
    f"|(?P<first>first) day {_OF_THE_MONTH}"
    # Not "every 2nd day" nor "every 3rd week", which are intervals.
    f"|(?P<days>{_DAYS_OF_MONTH})(?:(?: day)? {_OF_THE_MONTH}|(?! (?:day|week|month|year)))"
)
_DAY_OF_YEAR: Final = (
    f"(?P<day>{DAY_OF_MONTH})(?:st|nd|rd|th)? (?:of )?(?P<month>{MONTH})"
    f"|(?P<us_month>{MONTH}) (?P<us_day>{DAY_OF_MONTH})(?:st|nd|rd|th)?"
)


def _numbered_apart(pattern: str) -> str:
    """Give the pattern for a second place: names of groups must differ."""
    return pattern.replace("(?P<", "(?P<on_")


RECURRENCE: Final = phrase(
    "every(?P<again>!)? (?:"
    f"(?P<workdays>weekdays?|workdays?)|(?P<weekend>weekends?)"
    f"|(?P<other_week>other )?(?P<weekdays>{_DAYS_OF_WEEK})"
    f"|{_DAY_OF_YEAR}"
    f"|{_DAY_OF_MONTH}"
    f"|(?:(?:(?P<other>other)|(?P<interval>{NUMBER})|(?P<nth_interval>{ORDINAL})) )?(?P<unit>day|week|month|year)s?"
    f"(?: on (?:(?P<on_weekdays>{_DAYS_OF_WEEK})|(?:the )?(?:{_numbered_apart(_DAY_OF_YEAR)}"
    f"|{_numbered_apart(_DAY_OF_MONTH)})))?"
    ")"
)


@dataclass(frozen=True)
class Repeat:
    """How a task comes again.

    Attributes:
        parts: Of the RRULE, without the interval.
        interval: Every how many of them.
        anchor: What the next due date is counted from.
    """

    parts: tuple[tuple[str, str], ...]
    interval: int
    anchor: Anchor

    @property
    def rule(self) -> str:
        """The RRULE."""
        (freq, *rest), interval = self.parts, self.interval
        shown = [freq, *([("INTERVAL", str(interval))] if interval > 1 else []), *rest]
        return ";".join(f"{name}={value}" for name, value in shown)

    @property
    def names_a_day(self) -> bool:
        """Whether it says on which days, not only how often."""
        return len(self.parts) > 1


def read_recurrence(found: re.Match[str]) -> Repeat | None:
    """Give what a match of `RECURRENCE` says; None when it cannot be."""
    said = found.groupdict()
    anchor: Anchor = "completion" if said["again"] else "due"
    interval, freq, days = 1, None, _days(said, "")
    if said["unit"]:
        freq = _FREQUENCIES[said["unit"]]
        interval = _interval(said)
        days = _days(said, "on_")
        if days and days[0] != freq:
            return None  # every week on the 1st
    elif said["other_week"]:
        interval = 2
    if not 1 <= interval <= MAX_INTERVAL or (days and days[1] is None):
        return None
    parts = [("FREQ", days[0] if days else str(freq)), *((days[1] or []) if days else [])]
    return Repeat(tuple(parts), interval, anchor)


def _interval(said: dict[str, str | None]) -> int:
    if said["other"]:
        return 2
    if said["nth_interval"]:
        return nth_of(said["nth_interval"])
    return number_of(said["interval"] or "one")


_Days = tuple[str, list[tuple[str, str]] | None]


def _days(said: dict[str, str | None], place: str) -> _Days | None:
    """Give the frequency that named days imply, and their parts of a rule (None when no year has them)."""
    words = {name.removeprefix(place): word for name, word in said.items() if word and name.startswith(place)}
    if "month" in words or "us_month" in words:
        return "YEARLY", _day_of_year(words)
    by_day = _of_the_week(words)
    if by_day is not None:
        return "WEEKLY", [("BYDAY", by_day)]
    by_month_day = _of_the_month(words)
    if by_month_day is not None:
        return "MONTHLY", [by_month_day]
    return None


def _of_the_week(words: dict[str, str]) -> str | None:
    if "workdays" in words:
        return ",".join(WEEKDAYS[:5])
    if "weekend" in words:
        return "SA"
    if "weekdays" in words:
        days = sorted({weekday_of(day) for day in re.findall(ANY_WEEKDAY, words["weekdays"])})
        return ",".join(WEEKDAYS[day] for day in days)
    return None


def _of_the_month(words: dict[str, str]) -> tuple[str, str] | None:
    if "nth" in words:
        return "BYDAY", f"{nth_of(words['nth'])}{WEEKDAYS[weekday_of(words['nth_day'])]}"
    if "last" in words:
        return "BYMONTHDAY", "-1"
    if "first" in words:
        return "BYMONTHDAY", "1"
    if "days" in words:
        numbers = sorted({nth_of(day) for day in re.findall(ORDINAL, words["days"])})
        return "BYMONTHDAY", ",".join(map(str, numbers))
    return None


def _day_of_year(words: dict[str, str]) -> list[tuple[str, str]] | None:
    month, day = month_of(words.get("month") or words["us_month"]), int(words.get("day") or words["us_day"])
    there_is = day <= _LONGEST_MONTHS.get(month, 31)
    return [("BYMONTH", str(month)), ("BYMONTHDAY", str(day))] if there_is else None
