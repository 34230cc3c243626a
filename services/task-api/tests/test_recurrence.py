"""Occurrences: clocks that change, both anchors, and dateutil's own answers far from any change."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import process_time

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st

from task_api.tasks.ordering import MAX_POSITION_CHARS, position_at, position_between
from task_api.tasks.recurrence import StoredRecurrence, next_occurrence, parse_rule

NOW = datetime(2027, 1, 1, tzinfo=UTC)
WALL = datetime.fromisoformat("2001-01-01T09:00")  # a Monday


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def series(rule: str, zone: str, due: str, times: int, anchor: str = "due") -> list[str]:
    """Complete a task on time again and again."""
    recurrence: StoredRecurrence = {"rule": rule, "anchor": anchor, "time_zone": zone}
    due_at, found = at(due), []
    for _ in range(times):
        following = next_occurrence(recurrence, due_at=due_at, completed_at=due_at)
        if following is None:
            break
        due_at, recurrence = following.due_at, following.recurrence
        found.append(due_at.isoformat().removesuffix(":00+00:00"))
    return found


CLOCKS = [
    ("FREQ=DAILY", "Europe/Paris", "2027-03-27T09:00:00+01:00", ["2027-03-28T07:00", "2027-03-29T07:00"]),
    ("FREQ=DAILY", "Europe/Paris", "2027-10-30T09:00:00+02:00", ["2027-10-31T08:00", "2027-11-01T08:00"]),
    # 02:30 is skipped on the 28th and comes an hour later that day; the day after it is 02:30 again.
    ("FREQ=DAILY", "Europe/Paris", "2027-03-27T02:30:00+01:00", ["2027-03-28T01:30", "2027-03-29T00:30"]),
    # 02:30 happens twice on the 31st: the first is meant.
    ("FREQ=DAILY", "Europe/Paris", "2027-10-30T02:30:00+02:00", ["2027-10-31T00:30", "2027-11-01T01:30"]),
    (
        "FREQ=WEEKLY;BYDAY=MO,TH",
        "America/New_York",
        "2027-03-11T22:00:00-05:00",
        ["2027-03-16T02:00", "2027-03-19T02:00"],
    ),
    ("FREQ=DAILY", "Australia/Lord_Howe", "2027-10-02T08:00:00+10:30", ["2027-10-02T21:00", "2027-10-03T21:00"]),
    # Samoa skipped the 30th of December 2011 as a whole.
    ("FREQ=DAILY", "Pacific/Apia", "2011-12-29T09:00:00-10:00", ["2011-12-30T19:00", "2011-12-31T19:00"]),
    ("FREQ=MONTHLY", "Asia/Tokyo", "2027-01-31T09:00:00+09:00", ["2027-03-31T00:00", "2027-05-31T00:00"]),
    ("FREQ=MONTHLY;BYMONTHDAY=-1", "UTC", "2028-01-31T09:00:00Z", ["2028-02-29T09:00", "2028-03-31T09:00"]),
    ("FREQ=YEARLY", "UTC", "2028-02-29T09:00:00Z", ["2032-02-29T09:00", "2036-02-29T09:00"]),
    ("FREQ=YEARLY", "UTC", "2096-02-29T09:00:00Z", ["2104-02-29T09:00"]),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "UTC", "2027-01-29T09:00:00Z", ["2027-02-26T09:00"]),
    ("FREQ=DAILY;COUNT=2", "UTC", "2027-01-29T09:00:00Z", ["2027-01-30T09:00"]),
    ("FREQ=DAILY;UNTIL=20270131", "UTC", "2027-01-29T09:00:00Z", ["2027-01-30T09:00", "2027-01-31T09:00"]),
    ("FREQ=DAILY;UNTIL=20270131T085959Z", "UTC", "2027-01-29T09:00:00Z", ["2027-01-30T09:00"]),
    ("FREQ=DAILY", "UTC", "2199-12-30T09:00:00Z", ["2199-12-31T09:00"]),
]


@pytest.mark.parametrize(("rule", "zone", "due", "expected"), CLOCKS)
def test_the_wall_clock_decides(rule: str, zone: str, due: str, expected: list[str]) -> None:
    ends = "COUNT" in rule or "UNTIL" in rule or due.startswith("2199")
    assert series(rule, zone, due, 9 if ends else len(expected)) == expected


def test_what_was_missed_does_not_pile_up() -> None:
    recurrence: StoredRecurrence = {"rule": "FREQ=DAILY;INTERVAL=2", "anchor": "due", "time_zone": "UTC"}
    found = next_occurrence(recurrence, due_at=at("2027-01-01T09:00:00Z"), completed_at=at("2027-01-10T12:00:00Z"))
    assert found is not None
    assert found.due_at == at("2027-01-11T09:00:00Z"), "still every second day from the first"


@pytest.mark.parametrize(
    ("due", "done", "expected"),
    [
        ("2027-01-01T09:00:00Z", "2027-01-10T20:00:00Z", "2027-01-13T09:00:00Z"),  # late: from the day it was done
        ("2027-01-20T09:00:00Z", "2027-01-10T08:00:00Z", "2027-01-13T09:00:00Z"),  # early: so too
        (None, "2027-01-10T20:00:00Z", "2027-01-13T20:00:00Z"),
    ],
)
def test_from_the_completion_it_is_counted_from_the_day_it_was_done(due: str | None, done: str, expected: str) -> None:
    recurrence: StoredRecurrence = {"rule": "FREQ=DAILY;INTERVAL=3", "anchor": "completion", "time_zone": "UTC"}
    found = next_occurrence(recurrence, due_at=None if due is None else at(due), completed_at=at(done))
    assert found is not None
    assert found.due_at == at(expected)


def some(values: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(",".join)


RULES = st.builds(
    lambda freq, parts: ";".join([f"FREQ={freq}", *(f"{name}={value}" for name, value in parts.items())]),
    st.sampled_from(["MONTHLY", "YEARLY"]),
    st.fixed_dictionaries(
        {},
        optional={
            "INTERVAL": st.integers(1, 12).map(str),
            "BYDAY": some(["MO", "SU", "FR"]),
            "BYMONTHDAY": some(["1", "15", "-1", "29"]),
            "BYMONTH": some(["1", "2", "7", "12"]),
            "WKST": st.sampled_from(["MO", "SU"]),
        },
    ),
) | st.builds(
    "FREQ={};INTERVAL={};BYDAY={}".format, st.sampled_from(["DAILY", "WEEKLY"]), st.integers(1, 20), some(["MO", "TH"])
)


@given(rule=RULES, start=st.datetimes(WALL, WALL.replace(year=2060)), days=st.integers(0, 4000))
@settings(max_examples=200)
def test_walking_400_years_later_changes_nothing(rule: str, start: datetime, days: int) -> None:
    start = start.replace(microsecond=0)
    limit = start + timedelta(days=days)
    walked = rrulestr(rule + ";UNTIL=21991231T235959", dtstart=start).after(limit)
    assert parse_rule(rule).after(start, limit) == walked


def test_a_rule_without_any_occurrence_is_found_out_in_little_time() -> None:
    began = process_time()
    for rule in ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=31", "FREQ=DAILY;INTERVAL=7;BYDAY=TU", "FREQ=YEARLY;BYDAY=53MO"):
        try:
            parse_rule(rule).after(WALL, WALL)
        except ValueError:
            continue
    assert process_time() - began < 30  # until the year 9999 it would be minutes


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_there_is_always_a_position_between_two(moves: list[tuple[int, bool]]) -> None:
    positions = [position_at(NOW), position_at(NOW + timedelta(microseconds=1)), position_at(NOW + timedelta(days=1))]
    for place, at_end in moves:
        index = len(positions) if at_end else place % len(positions)
        low = positions[index - 1] if index else None
        high = positions[index] if index < len(positions) else None
        positions.insert(index, position_between(low, high, now=NOW))
        assert positions == sorted(positions)
        assert len(set(positions)) == len(positions)


def squeeze(low: str, high: str) -> Iterator[str]:
    """Move into the same gap for ever, from both sides in turn."""
    for at_low in itertools.cycle((True, False)):
        middle = position_between(low, high, now=NOW)
        assert low < middle < high
        yield middle
        low, high = (middle, high) if at_low else (low, middle)


def test_a_thousand_moves_into_the_same_gap_fit_and_then_there_is_an_error() -> None:
    moves = squeeze(position_at(NOW), position_at(NOW + timedelta(microseconds=1)))
    assert len(list(itertools.islice(moves, 1000))) == 1000
    with pytest.raises(ValueError, match=str(MAX_POSITION_CHARS)):
        list(moves)
