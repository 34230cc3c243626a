"""Dates and repetitions in plain English, as far as Todoist's export has them: `13 Jun`, `every monday at 9am`.

Knows the plain forms only and says so of all others; nothing is guessed. A date without a time means all of that day,
which is over at 23:59.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from task_api.tasks.recurrence import parse_rule
from task_api.tasks.schemas import EARLIEST_DUE, LATEST_DUE

END_OF_DAY: Final = time(23, 59)
_MAX_CHARS: Final = 100
_DAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_DAY_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH_NAMES: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_UNITS: Final = {"day": "DAILY", "week": "WEEKLY", "month": "MONTHLY", "year": "YEARLY"}
_ADVERBS: Final = {"daily": "day", "weekly": "week", "monthly": "month", "yearly": "year", "annually": "year"}
_ORDINALS: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d(t\d\d:\d\d(:\d\d(\.\d{1,6})?)?(z|[+-]\d\d:\d\d)?)?")
_TIME: Final = re.compile(r"(?:^|\s)(?:(?:at|@)\s*)?(\d{1,2})(?::(\d\d))?\s*(am|pm)?$|(?:^|\s)(noon|midnight)$")
_REPEATS: Final = re.compile(r"(?:(?:every|each|ev)(?P<strictly>!?)\s+(?P<what>.+)|(?P<adverb>[a-z]+))")
_FROM: Final = re.compile(r"\s(?:starting|from)\s(?:on\s)?(.+)$")


class NotUnderstoodError(ValueError):
    """The text is none of the plain forms."""


@dataclass(frozen=True)
class Repetition:
    """How something repeats, as the task model has it."""

    rule: str
    anchor: str


@dataclass(frozen=True)
class When:
    """What a text says."""

    due_at: datetime
    repetition: Repetition | None = None


def read_when(said: str, *, now: datetime, zone: ZoneInfo) -> When:
    """Read a text.

    Args:
        said: By a person, in English.
        now: What `today` and a date without year are counted from.
        zone: Where its times are meant.

    Raises:
        NotUnderstoodError: It is none of the forms that are known here.
    """
    said = " ".join(said.lower().replace(",", ", ").split())
    if not 0 < len(said) <= _MAX_CHARS:
        raise NotUnderstoodError
    today = now.astimezone(zone).replace(tzinfo=None)
    try:
        when = _repeating(said, today, zone) if _is_repeating(said) else When(_moment(said, today, zone))
        fits = EARLIEST_DUE <= when.due_at < LATEST_DUE
    except (ValueError, OverflowError) as error:
        raise NotUnderstoodError from error
    if not fits:
        raise NotUnderstoodError
    return when


def _is_repeating(said: str) -> bool:
    return said.startswith(("every", "each ", "ev ", "ev!")) or said.split(" ", maxsplit=1)[0] in _ADVERBS


def _moment(said: str, today: datetime, zone: ZoneInfo) -> datetime:
    if _ISO.fullmatch(said) and "t" in said:
        found = datetime.fromisoformat(said.upper())
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    rest, at = _split_time(said)
    day = today.date() if not rest else _day(rest, today.date())
    return datetime.combine(day, at or END_OF_DAY, zone).astimezone(UTC)


def _split_time(said: str) -> tuple[str, time | None]:
    """Take the time of day off the end of a text."""
    found = _TIME.search(said)
    if found is None:
        return said, None
    before = said[: found.start()].strip()
    if found[4]:
        return before, time(12 if found[4] == "noon" else 0)
    hour, minute, half = int(found[1]), int(found[2] or 0), found[3]
    if not half and found[2] is None and not re.search(r"(at|@)\s*\d+$", said):
        return said, None  # the number of a day or a year
    if half and not 1 <= hour <= 12:  # noqa: PLR2004
        raise NotUnderstoodError
    return before, time(hour % 12 + (12 if half == "pm" else 0) if half else hour, minute)


def _day(said: str, today: date) -> date:
    if _ISO.fullmatch(said):
        return date.fromisoformat(said)
    near = {"today": 0, "tomorrow": 1, "yesterday": -1}.get(said)
    if near is not None:
        return today + timedelta(days=near)
    if found := re.fullmatch(r"in (\d{1,4}) (day|week)s?", said):
        return today + timedelta(days=int(found[1]) * (7 if found[2] == "week" else 1))
    if (weekday := _weekday(said.removeprefix("next "))) is not None:
        return today + timedelta(days=(weekday - today.weekday() - 1) % 7 + 1)
    month, day, year = _month_day(said)
    return date(year or today.year, month, day)


def _month_day(said: str) -> tuple[int, int, int | None]:
    found = re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)? ([a-z]{3,9}),?(?: (\d{4}))?", said)
    day, month, year = (found[1], found[2], found[3]) if found else ("", "", None)
    if not found and (found := re.fullmatch(r"([a-z]{3,9}) (\d{1,2})(?:st|nd|rd|th)?,?(?: (\d{4}))?", said)):
        day, month, year = found[2], found[1], found[3]
    numbers = [number for number, name in enumerate(_MONTH_NAMES, start=1) if month and name.startswith(month)]
    if len(numbers) != 1:
        raise NotUnderstoodError
    return numbers[0], int(day), int(year) if year else None


def _weekday(said: str) -> int | None:
    found = [number for number, name in enumerate(_DAY_NAMES) if len(said) > 2 and name.startswith(said)]  # noqa: PLR2004
    return found[0] if len(found) == 1 else None


def _repeating(said: str, today: datetime, zone: ZoneInfo) -> When:
    begin = _FROM.search(said)
    said, at = _split_time(said[: begin.start()] if begin else said)
    found = _REPEATS.fullmatch(said)
    if found is None or found["adverb"] not in {None, *_ADVERBS}:
        raise NotUnderstoodError
    rule = parse_rule(_rule(_ADVERBS[found["adverb"]] if found["adverb"] else found["what"]))
    repetition = Repetition(str(rule), "completion" if found["strictly"] else "due")
    if begin:
        start = _moment(begin[1], today, zone).astimezone(zone).replace(tzinfo=None)
        start = start if at is None else datetime.combine(start.date(), at)
        first = rule.after(start, start - timedelta(seconds=1))
    else:
        first = rule.after(datetime.combine(today.date(), at or END_OF_DAY), today)
    if first is None:
        raise NotUnderstoodError
    return When(first.replace(tzinfo=zone).astimezone(UTC), repetition)


def _rule(what: str) -> str:
    """Give the rule for what follows `every`."""
    found = re.fullmatch(r"(?:(other|second|[1-9]\d{0,2}) )?(day|week|month|year|quarter)s?", what)
    if found:
        interval = 2 if found[1] in {"other", "second"} else int(found[1] or 1)
        unit, interval = ("month", interval * 3) if found[2] == "quarter" else (found[2], interval)
        return f"FREQ={_UNITS[unit]}" + (f";INTERVAL={interval}" if interval > 1 else "")
    if re.fullmatch(r"(?:week|work)days?", what):
        return "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"
    if re.fullmatch(r"weekends?", what):
        return "FREQ=WEEKLY;BYDAY=SA,SU"
    if re.fullmatch(r"last day(?: of the month)?", what):
        return "FREQ=MONTHLY;BYMONTHDAY=-1"
    if found := re.fullmatch(r"(1st|2nd|3rd|4th|first|second|third|fourth|last) ([a-z]+)", what):
        weekday = _weekday(found[2])
        if weekday is not None:
            number = _ORDINALS.get(found[1]) or int(found[1][0])
            return f"FREQ=MONTHLY;BYDAY={number}{_DAYS[weekday]}"
    return _listed(what)


def _listed(what: str) -> str:
    """Give the rule for a list of weekdays or of days of the month, or for a day of the year."""
    interval, rest = (";INTERVAL=2", what.removeprefix("other ")) if what.startswith("other ") else ("", what)
    parts = [part for part in re.split(r", and |, | and |/", rest) if part]
    weekdays = [_weekday(part) if _weekday(part) is not None else _weekday(part.removesuffix("s")) for part in parts]
    if weekdays and None not in weekdays:
        return f"FREQ=WEEKLY{interval};BYDAY=" + ",".join(_DAYS[day] for day in weekdays if day is not None)
    days = [re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)?", part) for part in parts]
    if days and all(days) and not interval:
        return "FREQ=MONTHLY;BYMONTHDAY=" + ",".join(str(int(day[1])) for day in days if day)
    month, day, year = _month_day(what)
    if year is not None:
        raise NotUnderstoodError
    return f"FREQ=YEARLY;BYMONTH={month};BYMONTHDAY={day}"
