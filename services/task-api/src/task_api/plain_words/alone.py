"""A text that says when and nothing else, as Todoist exports it: `13 Jun`, `every monday at 9am`.

The grammar is that of a line of quick add. Where a text is nothing but a date there are more ways to write it, since no
word of it could be one of a title (`daily`, `mon`, `at 9`): those are spelled as the grammar has them. What is then not
understood to its last character is not understood; nothing is guessed.
"""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from task_api.plain_words.due import Due, take_due
from task_api.plain_words.scan import Scan
from task_api.plain_words.words import ANY_WEEKDAY

_MAX_CHARS: Final = 100
_ADVERBS: Final = {"daily": "day", "weekly": "week", "monthly": "month", "yearly": "year", "annually": "year"}
_NUMBERS: Final = r"\d{1,2}(?:(?:,? and |, )\d{1,2})*"
_SPELLINGS: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r" ?/ ?"), ", "),
    (re.compile(r"^(?:each|ev)(!?) "), r"every\1 "),
    (re.compile(rf"^({'|'.join(_ADVERBS)})(?= |$)"), lambda found: f"every {_ADVERBS[found[1]]}"),
    (re.compile(r"^(every!?) second (?=(?:day|week|month|year|quarter)s?\b)"), r"\1 other "),
    (
        re.compile(r"^(every!?) (?:(other|\d{1,3}) )?quarters?\b"),
        lambda found: f"{found[1]} {_months(found[2])} months",
    ),
    (
        re.compile(rf"^(every!? )({_NUMBERS})(?= at | @|,? starting | from |$)"),
        lambda found: found[1] + _nths(found[2]),
    ),
    (re.compile(rf"^({ANY_WEEKDAY})(?=,? |$)"), r"on \1"),
    (re.compile(r"(^| )@ ?(?=[0-9])"), r"\1at "),
    (re.compile(r"(^| )(?:at )?midnight$"), r"\1at 00:00"),
    (re.compile(r"(^| )at ([0-9]{1,2})(?= starting| from|$)"), lambda found: f"{found[1]}at {found[2]:0>2}:00"),
    (re.compile(r"(^| )(?=[0-9]:[0-5][0-9](?: starting| from|$))"), r"\g<1>0"),
)


class NotUnderstoodError(ValueError):
    """The text says more than when, or something else."""


def read_alone(text: str, *, time_zone: str, now: datetime) -> Due:
    """Read a text. A day without a year is of this year, as those are that Todoist exports.

    Args:
        text: By a person, in English.
        time_zone: IANA name; days and times of day are those on the wall there.
        now: The moment of reading.

    Raises:
        NotUnderstoodError: Not all of it is understood.
    """
    if len(text) > _MAX_CHARS:
        raise NotUnderstoodError
    scan = Scan(_spelled(text, now.astimezone(ZoneInfo(time_zone)).date()))
    due = take_due(scan, time_zone=time_zone, now=now, of_this_year=True)
    if scan.title().strip(" ,") or due.due_at is None:
        raise NotUnderstoodError
    return due


def _spelled(text: str, today: date) -> str:
    said = " ".join(text.lower().replace(",", ", ").split())
    for pattern, spelled in _SPELLINGS:
        said = pattern.sub(spelled, said)
    return re.sub("^yesterday(?= |$)", (today - timedelta(days=1)).isoformat(), said)


def _months(quarters: str | None) -> int:
    return 3 * (2 if quarters == "other" else int(quarters or 1))


def _nths(numbers: str) -> str:
    return re.sub(r"\d+", lambda found: found[0] + _nth_ending(int(found[0])), numbers)


def _nth_ending(number: int) -> str:
    return "th" if number in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
