"""What quick add understands, phrase by phrase, and what it leaves alone: the tables of docs/api/quick-add.md."""

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from task_api.quick_add.parser import Reading, read

PARIS = "Europe/Paris"
# A Wednesday, ten in the morning.
NOW = datetime(2026, 11, 18, 10, tzinfo=ZoneInfo(PARIS))


def reading(text: str, *, time_zone: str = PARIS, now: datetime = NOW) -> Reading:
    return read(text, time_zone=time_zone, now=now)


def due(text: str) -> str | None:
    due_at = reading(text).due_at
    return None if due_at is None else due_at.astimezone(ZoneInfo(PARIS)).strftime("%Y-%m-%d %H:%M")


def understood(text: str) -> list[tuple[str, str]]:
    return [(part.kind, text[part.start : part.end]) for part in reading(text).parts]


def test_the_line_of_the_manual() -> None:
    text = "pay rent every 1st at 9am #home !high"
    found = reading(text)
    assert (found.title, found.priority, found.tags) == ("pay rent", "high", ("home",))
    assert found.due_at == datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert found.recurrence == {"rule": "FREQ=MONTHLY;BYMONTHDAY=1", "anchor": "due", "time_zone": PARIS}
    assert understood(text) == [
        ("recurrence", "every 1st"), ("time", "at 9am"), ("tag", "#home"), ("priority", "!high"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("today", "2026-11-18 23:59"),
        ("Tomorrow", "2026-11-19 23:59"),
        ("the day after tomorrow", "2026-11-20 23:59"),
        ("wednesday", "2026-11-25 23:59"),
        ("this wednesday", "2026-11-18 23:59"),
        ("next wed", "2026-11-25 23:59"),
        ("friday", "2026-11-20 23:59"),
        ("next friday", "2026-11-27 23:59"),
        ("next monday", "2026-11-23 23:59"),
        ("on mon", "2026-11-23 23:59"),
        ("by Sunday", "2026-11-22 23:59"),
        ("this weekend", "2026-11-21 23:59"),
        ("next week", "2026-11-23 23:59"),
        ("next month", "2026-12-01 23:59"),
        ("in 3 days", "2026-11-21 23:59"),
        ("in a week", "2026-11-25 23:59"),
        ("in two months", "2027-01-18 23:59"),
        ("in 1 year", "2027-11-18 23:59"),
        ("in 90 minutes", "2026-11-18 11:30"),
        ("in an hour", "2026-11-18 11:00"),
        ("24 dec", "2026-12-24 23:59"),
        ("dec 24th", "2026-12-24 23:59"),
        ("24th of December 2027", "2027-12-24 23:59"),
        ("December 24, 2027", "2027-12-24 23:59"),
        ("Thu 24 dec", "2026-12-24 23:59"),
        ("18 nov", "2026-11-18 23:59"),
        ("17 nov", "2027-11-17 23:59"),
        ("29 feb", "2028-02-29 23:59"),
        ("2026-12-24", "2026-12-24 23:59"),
        ("due 2020-01-01", "2020-01-01 23:59"),
        ("9am", "2026-11-19 09:00"),
        ("at 11 am", "2026-11-18 11:00"),
        ("9:30 p.m.", "2026-11-18 21:30"),
        ("12am", "2026-11-19 00:00"),
        ("12pm", "2026-11-18 12:00"),
        ("at noon", "2026-11-18 12:00"),
        ("17:30", "2026-11-18 17:30"),
        ("at 9:30", "2026-11-19 09:30"),
        ("tomorrow at 9am", "2026-11-19 09:00"),
        ("17:30 next friday", "2026-11-27 17:30"),
        ("today 9am", "2026-11-18 09:00"),
    ],
)
def test_days_and_times_are_understood(phrase: str, expected: str) -> None:
    for text in (f"{phrase} call mum", f"call {phrase} mum", f"call mum {phrase}"):
        assert due(text) == expected
        assert reading(text).title == "call mum"
        assert reading(text).recurrence is None


@pytest.mark.parametrize(
    ("phrase", "rule", "first"),
    [
        ("every day", "FREQ=DAILY", "2026-11-18 23:59"),
        ("every day at 9am", "FREQ=DAILY", "2026-11-19 09:00"),
        ("every other day", "FREQ=DAILY;INTERVAL=2", "2026-11-18 23:59"),
        ("every 2nd day", "FREQ=DAILY;INTERVAL=2", "2026-11-18 23:59"),
        ("every 3 days", "FREQ=DAILY;INTERVAL=3", "2026-11-18 23:59"),
        ("every weekday 9am", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "2026-11-19 09:00"),
        ("every weekend", "FREQ=WEEKLY;BYDAY=SA", "2026-11-21 23:59"),
        ("every week", "FREQ=WEEKLY", "2026-11-18 23:59"),
        ("every other week", "FREQ=WEEKLY;INTERVAL=2", "2026-11-18 23:59"),
        ("every monday", "FREQ=WEEKLY;BYDAY=MO", "2026-11-23 23:59"),
        ("every Mon, Wed and Fri", "FREQ=WEEKLY;BYDAY=MO,WE,FR", "2026-11-18 23:59"),
        ("every fri & mon", "FREQ=WEEKLY;BYDAY=MO,FR", "2026-11-20 23:59"),
        ("every other monday", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "2026-11-23 23:59"),
        ("every 2 weeks on tue and thu", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH", "2026-11-19 23:59"),
        ("every month", "FREQ=MONTHLY", "2026-11-18 23:59"),
        ("every 3 months", "FREQ=MONTHLY;INTERVAL=3", "2026-11-18 23:59"),
        ("every 1st", "FREQ=MONTHLY;BYMONTHDAY=1", "2026-12-01 23:59"),
        ("every 15th of the month", "FREQ=MONTHLY;BYMONTHDAY=15", "2026-12-15 23:59"),
        ("every 1st and 15th", "FREQ=MONTHLY;BYMONTHDAY=1,15", "2026-12-01 23:59"),
        ("every 31st", "FREQ=MONTHLY;BYMONTHDAY=31", "2026-12-31 23:59"),
        ("every 2nd day of the month", "FREQ=MONTHLY;BYMONTHDAY=2", "2026-12-02 23:59"),
        ("every first day of the month", "FREQ=MONTHLY;BYMONTHDAY=1", "2026-12-01 23:59"),
        ("every last day of the month", "FREQ=MONTHLY;BYMONTHDAY=-1", "2026-11-30 23:59"),
        ("every month on the 20th", "FREQ=MONTHLY;BYMONTHDAY=20", "2026-11-20 23:59"),
        ("every second tuesday of the month", "FREQ=MONTHLY;BYDAY=2TU", "2026-12-08 23:59"),
        ("every last friday", "FREQ=MONTHLY;BYDAY=-1FR", "2026-11-27 23:59"),
        ("every year", "FREQ=YEARLY", "2026-11-18 23:59"),
        ("every 24 dec", "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24", "2026-12-24 23:59"),
        ("every year on Feb 29th", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2028-02-29 23:59"),
        ("every day starting 2027-01-05", "FREQ=DAILY", "2027-01-05 23:59"),
        ("every monday from 24 dec", "FREQ=WEEKLY;BYDAY=MO", "2026-12-28 23:59"),
        ("every monday at 9am from 28 dec", "FREQ=WEEKLY;BYDAY=MO", "2026-12-28 09:00"),
    ],
)
def test_recurrence_is_understood_with_its_first_day(phrase: str, rule: str, first: str) -> None:
    for text in (f"{phrase} call mum", f"call mum {phrase}"):
        found = reading(text)
        assert found.recurrence == {"rule": rule, "anchor": "due", "time_zone": PARIS}
        assert (due(text), found.title) == (first, "call mum")


def test_every_with_an_exclamation_mark_counts_from_the_completion() -> None:
    found = reading("every! 3 days water the plants")
    assert found.recurrence == {"rule": "FREQ=DAILY;INTERVAL=3", "anchor": "completion", "time_zone": PARIS}
    assert due("every! 3 days water the plants") == "2026-11-18 23:59"


@pytest.mark.parametrize(
    "text",
    [
        "I may call the bank", "march through the list", "sat in the sun", "the second draft",
        "mix 3/4 cup flour", "party 12/24", "24.12.2026 party", "version 1.2.3", "read John 3:16",
        "cut costs by 10 percent", "look at 9 flats", "Friday's plan", "mid-today", "9am-10am shift",
        "check every door", "every 500 days", "every 5 workdays", "every hour", "every 30 feb", "every week on the 1st",
        "due 31 feb", "in 999 years", "2026-13-01", "2026-02-30", "fri 24 dec 2026", "1969-12-31", "2300-01-01",
        "25:00", "13pm", "issue #42", "C# code", "a#b", "#", "##", "p4", "p12", "!huge", "wow!high", "!",
        "daily standup", "yesterday", "tomorrow's news", "#" + "x" * 51,
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays_in_the_title(text: str) -> None:
    found = reading(text)
    assert (found.title, found.parts, found.due_at, found.tags, found.priority) == (text, (), None, (), "medium")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (r"\#1 and \every day \tomorrow", "#1 and every day tomorrow"),
        (r"\\tomorrow", r"\tomorrow"),
        (r"copy C:\tomorrow\9am", r"copy C:\tomorrow\9am"),
        ('watch "Every Day" twice', 'watch "Every Day" twice'),
        ('watch "on next friday night" twice', 'watch "on next friday night" twice'),
        ("watch \u201cnext friday\u201d", "watch \u201cnext friday\u201d"),
        (r"in 3 \days", "in 3 days"),
        ("ends with \\", "ends with \\"),
    ],
)
def test_what_is_escaped_or_quoted_is_title(text: str, title: str) -> None:
    assert (reading(text).title, reading(text).parts) == (title, ())


def test_an_inch_is_no_quotation() -> None:
    assert reading('buy a 5" pipe tomorrow and 3" nails').title == 'buy a 5" pipe and 3" nails'


@pytest.mark.parametrize(
    ("text", "title", "expected"),
    [
        ("move friday lunch tomorrow", "move friday lunch", ("date", "tomorrow")),
        ("9am call 17:30", "9am call", ("time", "17:30")),
        ("!low job !high", "!low job", ("priority", "!high")),
        ("every day and every week", "every day and", ("recurrence", "every week")),
        ("every monday or every friday", "every monday or", ("recurrence", "every friday")),
    ],
)
def test_the_last_of_a_kind_counts_and_earlier_ones_are_title(text: str, title: str, expected: tuple[str, str]) -> None:
    assert (reading(text).title, understood(text)) == (title, [expected])


def test_white_space_of_any_kind_is_a_space() -> None:
    assert understood("pay\u00a0every\u2003day\t#home\u3000p1\n") == [
        ("recurrence", "every\u2003day"), ("tag", "#home"), ("priority", "p1"),
    ]  # fmt: skip


def test_a_day_that_no_year_has_spoils_nothing_else() -> None:
    assert understood("every 30 feb tomorrow 9am") == [("date", "tomorrow"), ("time", "9am")]


def test_what_would_never_come_again_is_no_recurrence() -> None:
    text = "every year 9am from 2199-12-30 #home"
    assert (understood(text), reading(text).title) == ([("tag", "#home")], "every year 9am from 2199-12-30")
    assert (reading(text).due_at, reading(text).recurrence) == (None, None)


def test_tags_are_all_taken_each_once_in_their_one_form() -> None:
    found = reading("#Home paint, #GRÖSSE2! and (#deep-work) #home #家")
    assert found.tags == ("home", "grösse2", "deep-work", "家")
    assert found.title == "paint,! and ()"


def test_the_twenty_first_tag_stays_in_the_title() -> None:
    found = reading("x " + " ".join(f"#t{n}" for n in range(22)))
    assert (len(found.tags), found.title) == (20, "x #t20 #t21")


@pytest.mark.parametrize(("mark", "priority"), [("p1", "high"), ("P2", "medium"), ("p3", "low"), ("!Low", "low")])
def test_priorities(mark: str, priority: str) -> None:
    assert (reading(f"x {mark}").priority, reading(f"x {mark}").title) == (priority, "x")


def test_punctuation_after_a_part_goes_to_the_word_before_it() -> None:
    assert reading("party  24 dec 2026, or not").title == "party, or not"
    assert reading("party tomorrow, or not").title == "party, or not"


PAGE = Path(__file__).parents[3] / "docs" / "api" / "quick-add.md"


def phrases_of(heading: str) -> list[str]:
    """Give what the first column of a table of the manual has in backticks."""
    table = PAGE.read_text(encoding="utf-8").split(f"\n| {heading} |")[1].split("\n\n")[0]
    return [phrase for row in table.splitlines()[2:] for phrase in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        (kind, phrase)
        for heading, kind in (("day", "date"), ("time", "time"), ("recurrence", "recurrence"))
        for phrase in phrases_of(heading)
    ],
)
def test_the_manual_is_right_about_what_is_understood(kind: str, phrase: str) -> None:
    assert understood(f"x {phrase}") == [(kind, phrase)]


@pytest.mark.parametrize("phrase", phrases_of("mark"))
def test_the_manual_is_right_about_marks(phrase: str) -> None:
    assert understood(f"x {phrase}") == (
        [] if phrase == "#42" else [("tag" if phrase[0] == "#" else "priority", phrase)]
    )


@pytest.mark.parametrize("phrase", phrases_of("text"))
def test_the_manual_is_right_about_what_is_not(phrase: str) -> None:
    assert (understood(f"x {phrase}"), reading(f"x {phrase}").title) == ([], f"x {phrase}")
