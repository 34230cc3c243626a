"""Phrases that say a day, or a time of day."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from dateutil.relativedelta import relativedelta

from task_api.plain_words.scan import phrase
from task_api.plain_words.words import (
    ANY_WEEKDAY,
    DAY_OF_MONTH,
    FULL_WEEKDAY,
    MONTH,
    NUMBER,
    month_of,
    number_of,
    weekday_of,
)

FIRST_DAY: Final = date(1970, 1, 2)
LAST_DAY: Final = date(2199, 12, 30)
"""What a due date may be, wherever the day begins."""
_LEAP_YEARS_APART: Final = 8

_BEFORE: Final = "(?:(?:due |starting )?(?:on|by|from)|due|starting)"
_YEAR: Final = "(?:19[7-9][0-9]|2[01][0-9][0-9])"
# Short names of days are words of their own ("sat in the sun"), so they want a word before them.
DATE: Final = phrase(
    f"(?:{_BEFORE} )?(?:"
    f"(?:(?P<weekday>{ANY_WEEKDAY}),? )?(?:"
    f"(?P<day>{DAY_OF_MONTH})(?:st|nd|rd|th)? (?:of )?(?P<month>{MONTH})(?:,? (?P<year>{_YEAR}))?"
    f"|(?P<us_month>{MONTH}) (?P<us_day>{DAY_OF_MONTH})(?:st|nd|rd|th)?(?:,? (?P<us_year>{_YEAR}))?"
    f"|(?P<iso>{_YEAR}-[01][0-9]-[0-3][0-9]))"
    "|(?P<near>today|tomorrow|(?:the )?day after tomorrow|next week|next month|this weekend)"
    f"|in (?P<number>{NUMBER}|an?) (?P<unit>minute|hour|day|week|month|year)s?"
    f"|(?P<which>next|this) (?P<named>{ANY_WEEKDAY})"
    f"|(?P<full>{FULL_WEEKDAY})"
    f")|{_BEFORE} (?P<short>{ANY_WEEKDAY})"
)
TIME: Final = phrase(
    r"(?:at )?(?:(?P<hour>1[0-2]|0?[1-9])(?:[:.](?P<minute>[0-5][0-9]))? ?(?P<half>[ap])(?:m|\.m\.?)"
    "|(?P<clock>(?:[01][0-9]|2[0-3]):[0-5][0-9])|(?P<noon>noon))"
    "|at (?P<short_clock>[0-9]:[0-5][0-9])"
)


def read_date(found: re.Match[str], now: datetime, *, of_this_year: bool = False) -> date | datetime | None:
    """Give the day that a match of `DATE` says, or the moment; None when there is no such day.

    Args:
        found: The match.
        now: In the time zone of the writer.
        of_this_year: Whether a day without a year is of this one, though it be past; else it is the coming one.
    """
    try:
        day = _read(found, now, of_this_year=of_this_year)
    except (ValueError, OverflowError):
        return None
    if day is None or not FIRST_DAY <= day_of(day) <= LAST_DAY:
        return None
    weekday = found["weekday"]
    return None if weekday and weekday_of(weekday) != day.weekday() else day  # on a Friday that is none


def day_of(day: date | datetime) -> date:
    """Give the day of a day or a moment."""
    return day.date() if isinstance(day, datetime) else day


def _read(found: re.Match[str], now: datetime, *, of_this_year: bool) -> date | datetime | None:
    today, said = now.date(), found.groupdict()
    if said["near"]:
        return _NEAR[said["near"].split()[0], said["near"].split()[-1]](today)
    if said["unit"]:
        return _after(now, number_of(said["number"]), said["unit"])
    if said["full"] or said["short"] or said["named"]:
        return _weekday(today, said["which"], said["full"] or said["short"] or said["named"])
    return _day_of_year(today, said, of_this_year=of_this_year)


def _weekday(today: date, which: str | None, word: str) -> date:
    """Give the coming one; with `this` it may be today, with `next` it is in the week that begins next Monday."""
    days = weekday_of(word) - today.weekday()
    if which == "next":
        return today + timedelta(days=days + 7)
    return today + timedelta(days=days % 7 if which == "this" else (days - 1) % 7 + 1)


def _day_of_year(today: date, said: dict[str, str], *, of_this_year: bool) -> date | None:
    if said["iso"]:
        return date.fromisoformat(said["iso"])
    month, day = month_of(said["month"] or said["us_month"]), int(said["day"] or said["us_day"])
    year = said["year"] or said["us_year"] or (today.year if of_this_year else None)
    return date(int(year), month, day) if year else coming(today, month, day)


# By first and last word, whatever is between.
_NEAR: Final[dict[tuple[str, str], Callable[[date], date]]] = {
    ("today", "today"): lambda today: today,
    ("tomorrow", "tomorrow"): lambda today: today + timedelta(days=1),
    ("the", "tomorrow"): lambda today: today + timedelta(days=2),
    ("day", "tomorrow"): lambda today: today + timedelta(days=2),
    ("next", "week"): lambda today: today + timedelta(days=7 - today.weekday()),
    ("next", "month"): lambda today: today.replace(day=1) + relativedelta(months=1),
    ("this", "weekend"): lambda today: today if today.weekday() == 6 else today + timedelta(days=5 - today.weekday()),  # noqa: PLR2004 (Sunday)
}


def _after(now: datetime, number: int, unit: str) -> date | datetime:
    match unit:
        case "minute" | "hour":  # of real time, whatever clocks do meanwhile
            elapsed = timedelta(minutes=number) if unit == "minute" else timedelta(hours=number)
            return (now.astimezone(UTC).replace(second=0, microsecond=0) + elapsed).astimezone(now.tzinfo)
        case "day":
            return now.date() + timedelta(days=number)
        case "week":
            return now.date() + timedelta(weeks=number)
        case "month":
            return now.date() + relativedelta(months=number)
        case _:
            return now.date() + relativedelta(years=number)


def coming(today: date, month: int, day: int) -> date | None:
    """Give the next such day of the year, today included; None when no year has it."""
    for year in range(today.year, today.year + _LEAP_YEARS_APART + 1):
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found >= today:
            return found
    return None


def read_time(found: re.Match[str]) -> time:
    """Give the time of day that a match of `TIME` says."""
    said = found.groupdict()
    if said["noon"]:
        return time(12)
    if clock := said["clock"] or said["short_clock"]:
        hour, minute = clock.split(":")
        return time(int(hour), int(minute))
    return time(int(said["hour"]) % 12 + (12 if said["half"] == "p" else 0), int(said["minute"] or 0))
