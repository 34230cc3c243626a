"""Todoist's CSV, as its export and its backup write it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.testing import bearer
from task_api.plain_words.alone import NotUnderstoodError, read_alone
from task_api.portability.rows import FileRow
from task_api.portability.todoist import TodoistRows

TASKS = "/api/v1/tasks"
ALICE = bearer("alice")
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)  # a Saturday
PARIS = "Europe/Paris"
HEADER = (
    "TYPE,CONTENT,DESCRIPTION,IS_COLLAPSED,PRIORITY,INDENT,AUTHOR,RESPONSIBLE,DATE,DATE_LANG,TIMEZONE,"
    "DURATION,DURATION_UNIT,DEADLINE,DEADLINE_LANG"
)
EXPORT = "\r\n".join(
    [
        "\ufeff" + HEADER,
        "meta,view_style=list,,,,,,,,,,,,,",
        ",,,,,,,,,,,,,,",
        (
            'task,"Move house, at last @home @next_year","First line\nsecond ""line""",,1,1,Ada (1001),,2027-03-31,en,'
            "Europe/Paris,,None,,"
        ),
        "task,Pack boxes,,,2,2,Ada (1001),,tomorrow at 9am,en,Europe/Paris,30,minute,,",
        'note,"Ask for tape [[file {""file_name"":""tape.png""}]]",,,,,Ada (1001),,2026-06-08T07:02:05.000000Z,,,,,,',
        "task,Label them,,,4,3,Ada (1001),,,,Europe/Paris,,,,",
        ",,,,,,,,,,,,,,",
        "section,Later,,False,,,,,,,,,,,",
        "task,Water the plants,,,3,1,Ada (1001),,every monday at 8:30,en,Europe/Paris,,,,",
        "task,Write to bob@example.com,,,4,1,Ada (1001),,every blue moon,en,Europe/Paris,,,,",
        "task,Steuer,,,4,1,Ada (1001),,jeden Tag,de,Europe/Berlin,,,2027-05-31,de",
        "project_note,About the project,,,,,Ada (1001),,2026-07-17T10:00:00.000000Z,,,,,,",
        "",
    ]
)


async def send(client: httpx2.AsyncClient, content: str, query: str = "") -> dict[str, Any]:
    headers = ALICE | {"Content-Type": "text/csv", "Idempotency-Key": "k"}
    response = await client.post(f"{TASKS}/import{query}", content=content.encode(), headers=headers)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    return report


async def test_an_export_of_todoist_is_read_as_it_is(client: httpx2.AsyncClient) -> None:
    report = await send(client, EXPORT)
    assert (report["format"], report["tasks"], report["created"], report["failed"]) == ("todoist", 6, 6, 0)
    assert [(one["line"], one["code"]) for one in report["remarks"]] == [
        (12, "date_not_understood"),
        (13, "date_not_understood"),
        (14, "row_left_out"),
    ]
    assert report["remarks"][0]["detail"] == "DATE is not understood and was left out: every blue moon"
    tasks = (await client.get(f"{TASKS}?sort=position", headers=ALICE)).json()["items"]
    house, boxes, labels, plants, mail, tax = tasks
    assert (house["title"], house["tags"], house["priority"]) == ("Move house, at last", ["home", "next_year"], "high")
    assert (house["description"], house["due_at"]) == ('First line\nsecond "line"', "2027-03-31T21:59:00Z")
    assert (boxes["parent_id"], boxes["priority"]) == (house["id"], "medium")
    assert (boxes["description"], report["comments"]) == (None, 1)
    (note,) = (await client.get(f"{TASKS}/{boxes['id']}/comments", headers=ALICE)).json()["items"]
    assert (note["body"], note["author_id"]) == ('Ask for tape [[file {"file_name":"tape.png"}]]', "alice")
    assert (note["created_at"], note["edited_at"]) == ("2026-06-08T07:02:05Z", None)
    assert (labels["parent_id"], labels["priority"], labels["due_at"]) == (boxes["id"], "low", None)
    assert (plants["parent_id"], plants["priority"], plants["tags"]) == (None, "medium", ["later"])
    assert plants["recurrence"] == {"rule": "FREQ=WEEKLY;BYDAY=MO", "anchor": "due", "time_zone": "Europe/Paris"}
    assert (mail["title"], mail["due_at"], mail["recurrence"]) == ("Write to bob@example.com", None, None)
    assert tax["due_at"] == "2027-05-31T21:59:00Z"
    assert (await send(client, EXPORT))["already_imported"] == 6


async def test_older_exports_with_fewer_columns_are_read_too(client: httpx2.AsyncClient) -> None:
    content = "TYPE,CONTENT,PRIORITY,INDENT,AUTHOR,RESPONSIBLE,DUE_DATE,DUE_DATE_LANG\ntask,Old,1,1,,,2027-01-31,en\n"
    await send(client, content, "?time_zone=Asia/Tokyo")
    (task,) = (await client.get(TASKS, headers=ALICE)).json()["items"]
    assert (task["title"], task["priority"], task["due_at"]) == ("Old", "high", "2027-01-31T14:59:00Z")


def read(*rows: Mapping[str, str]) -> list[FileRow]:
    reader = TodoistRows(now=NOW, time_zone="UTC")
    found = [row for line, cells in enumerate(rows, start=2) for row in reader.read(line, line - 1, cells)]
    return found + list(reader.end())


def a_task(content: str, **more: str) -> dict[str, str]:
    return {"TYPE": "task", "CONTENT": content, "INDENT": "1"} | more


def test_the_line_of_indents_says_what_is_below_what() -> None:
    indents = ["1", "2", "3", "2", "4", "1", "", "x", "2"]
    rows = read(*(a_task(str(n), INDENT=indent) for n, indent in enumerate(indents)))
    above = [None if row.above is None else int(row.above.removeprefix("row ")) - 1 for row in rows]
    assert above == [None, 0, 1, 0, 3, None, None, None, 7]


def test_a_new_section_begins_at_the_top() -> None:
    rows = read(a_task("a"), {"TYPE": "section", "CONTENT": "S"}, a_task("b", INDENT="2"))
    assert [row.above for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("content", "title", "tags"),
    [
        ("Call @home", "Call", ["home"]),
        ("@home Call @Work now", "Call now", ["home", "work"]),
        ("mail a@b.c", "mail a@b.c", []),
        ("@home", "@home", ["home"]),
        ("meet @ noon", "meet @ noon", []),
        ("x @" + "y" * 51, "x @" + "y" * 51, []),
    ],
)
def test_labels_are_tags(content: str, title: str, tags: list[str]) -> None:
    (row,) = read(a_task(content))
    assert row.task is not None
    assert (row.task.title, row.task.tags) == (title, tags)


def test_a_long_title_is_kept_in_the_description() -> None:
    (row,) = read(a_task("long " * 90, DESCRIPTION="more"))
    assert row.task is not None
    assert row.task.title == ("long " * 90)[:199].rstrip() + "…"
    assert row.task.description == ("long " * 90).strip() + "\n\nmore"
    assert [remark.code for remark in row.remarks] == ["title_shortened"]


def test_what_todoist_says_that_cannot_be_is_refused_by_its_row() -> None:
    rows = read(a_task("", PRIORITY="4"), a_task("x", PRIORITY="9"), a_task("x", TIMEZONE="Mars/Olympus"))
    assert [row.error is not None for row in rows] == [True, True, False]
    assert [remark.code for remark in rows[2].remarks] == ["time_zone_not_known"]


@pytest.mark.parametrize(
    ("said", "due", "rule"),
    [
        ("2027-01-31", "2027-01-31T22:59:00", None),
        ("2027-01-31 at 11:00", "2027-01-31T10:00:00", None),
        ("2027-01-31 11:00", "2027-01-31T10:00:00", None),
        ("13 Jun", "2026-06-13T21:59:00", None),
        ("Jun 13", "2026-06-13T21:59:00", None),
        ("Oct 12 2027", "2027-10-12T21:59:00", None),
        ("Oct 12, 2027", "2027-10-12T21:59:00", None),
        ("10 Apr 17:15", "2026-04-10T15:15:00", None),
        ("2 January 2027", "2027-01-02T22:59:00", None),
        ("today", "2026-11-21T22:59:00", None),
        ("tomorrow at 9am", "2026-11-22T08:00:00", None),
        ("tomorrow 18:00", "2026-11-22T17:00:00", None),
        ("12am", "2026-11-21T23:00:00", None),
        ("midnight", "2026-11-21T23:00:00", None),
        ("yesterday", "2026-11-20T22:59:00", None),
        ("yesterday @ 9", "2026-11-20T08:00:00", None),
        ("tomorrow 9:15", "2026-11-22T08:15:00", None),
        ("tomorrow at 18", "2026-11-22T17:00:00", None),
        ("mon", "2026-11-23T22:59:00", None),
        ("thu 24 dec", "2026-12-24T22:59:00", None),
        ("next monday", "2026-11-23T22:59:00", None),
        ("monday noon", "2026-11-23T11:00:00", None),
        ("saturday", "2026-11-28T22:59:00", None),
        ("in 3 days", "2026-11-24T22:59:00", None),
        ("every day", "2026-11-21T22:59:00", "FREQ=DAILY"),
        ("every day at 9am", "2026-11-22T08:00:00", "FREQ=DAILY"),
        ("each day", "2026-11-21T22:59:00", "FREQ=DAILY"),
        ("ev! monday", "2026-11-23T22:59:00", "FREQ=WEEKLY;BYDAY=MO after completion"),
        ("weekly", "2026-11-21T22:59:00", "FREQ=WEEKLY"),
        ("annually at 9:30", "2026-11-22T08:30:00", "FREQ=YEARLY"),
        ("every second week", "2026-11-21T22:59:00", "FREQ=WEEKLY;INTERVAL=2"),
        ("every mon/fri", "2026-11-23T22:59:00", "FREQ=WEEKLY;BYDAY=MO,FR"),
        ("every mondays", "2026-11-23T22:59:00", "FREQ=WEEKLY;BYDAY=MO"),
        ("every other tue at 9", "2026-11-24T08:00:00", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU"),
        ("every weekend", "2026-11-21T22:59:00", "FREQ=WEEKLY;BYDAY=SA"),
        ("every 15", "2026-12-15T22:59:00", "FREQ=MONTHLY;BYMONTHDAY=15"),
        ("every 1, 22 and 23 at 9", "2026-11-22T08:00:00", "FREQ=MONTHLY;BYMONTHDAY=1,22,23"),
        ("every second tuesday", "2026-12-08T22:59:00", "FREQ=MONTHLY;BYDAY=2TU"),
        ("every other quarter", "2026-11-21T22:59:00", "FREQ=MONTHLY;INTERVAL=6"),
        ("every day starting 13 jun", "2026-06-13T21:59:00", "FREQ=DAILY"),
        ("daily", "2026-11-21T22:59:00", "FREQ=DAILY"),
        ("every 3 days", "2026-11-21T22:59:00", "FREQ=DAILY;INTERVAL=3"),
        ("every! 2 weeks", "2026-11-21T22:59:00", "FREQ=WEEKLY;INTERVAL=2 after completion"),
        ("every other week", "2026-11-21T22:59:00", "FREQ=WEEKLY;INTERVAL=2"),
        ("every monday at 9am", "2026-11-23T08:00:00", "FREQ=WEEKLY;BYDAY=MO"),
        ("every mon, wed and fri", "2026-11-23T22:59:00", "FREQ=WEEKLY;BYDAY=MO,WE,FR"),
        ("every weekday", "2026-11-23T22:59:00", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"),
        ("every 15th", "2026-12-15T22:59:00", "FREQ=MONTHLY;BYMONTHDAY=15"),
        ("every 1st, 15th", "2026-12-01T22:59:00", "FREQ=MONTHLY;BYMONTHDAY=1,15"),
        ("every last day", "2026-11-30T22:59:00", "FREQ=MONTHLY;BYMONTHDAY=-1"),
        ("every 2nd tuesday", "2026-12-08T22:59:00", "FREQ=MONTHLY;BYDAY=2TU"),
        ("every month", "2026-11-21T22:59:00", "FREQ=MONTHLY"),
        ("every quarter", "2026-11-21T22:59:00", "FREQ=MONTHLY;INTERVAL=3"),
        ("every Mar 31", "2027-03-31T21:59:00", "FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=31"),
        ("every day starting 2027-02-01", "2027-02-01T22:59:00", "FREQ=DAILY"),
        ("every monday at 8:30 starting 1 Feb 2027", "2027-02-01T07:30:00", "FREQ=WEEKLY;BYDAY=MO"),
    ],
)
def test_dates_are_understood_as_todoist_writes_them(said: str, due: str, rule: str | None) -> None:
    found = read_alone(said, time_zone=PARIS, now=NOW)
    assert found.due_at is not None
    assert found.due_at.replace(tzinfo=None).isoformat() == due
    recurrence = found.recurrence
    after = " after completion" if recurrence is not None and recurrence["anchor"] == "completion" else ""
    assert (None if recurrence is None else recurrence["rule"] + after) == rule


MOMENTS = [
    ("2027-01-31T09:00:00", "2027-01-31T08:00:00Z"),
    ("2027-01-31T09:00:00.000000Z", "2027-01-31T09:00:00Z"),
    ("2026-08-13T18:30:00-05:00", "2026-08-13T23:30:00Z"),
    ("2026-08-13T18:30", "2026-08-13T16:30:00Z"),
    ("2027-13-01T00:00:00", None),
    ("9999-12-31T23:59:59Z", None),
    ("0001-01-01T00:00:00+14:00", None),
]


@pytest.mark.parametrize(("said", "due"), MOMENTS)
def test_moments_are_read_in_any_language(said: str, due: str | None) -> None:
    (row,) = read(a_task("x", DATE=said, DATE_LANG="de", TIMEZONE=PARIS))
    assert row.task is not None
    assert row.task.due_at == (None if due is None else datetime.fromisoformat(due))
    assert [remark.code for remark in row.remarks] == (["date_not_understood"] if due is None else [])


UNKNOWN = "every|everything|every blue moon|every 200 days|every hour|31 feb|13 ju|13pm|at 25:00|9999-12-31|1900-01-01"
UNKNOWN += "|every 0 days|2027-13-01|in 9999 weeks|every 32nd|next||today tomorrow|every day at 9am sharp|on|at 9 flats"
UNKNOWN += (
    "|every 40|" + "x" * 101 + '|every second day of the moon|every 50 quarters|monday or tuesday|\\today|"today"'
)


@pytest.mark.parametrize("said", UNKNOWN.split("|"))
def test_nothing_is_guessed(said: str) -> None:
    with pytest.raises(NotUnderstoodError):
        read_alone(said, time_zone=PARIS, now=NOW)


WORDS = "every ev! each other second daily quarters monday mon weekend 1st 15 22 at @ 9 9:15 9am noon midnight starting"
WORDS += ' from on yesterday next in 3 days 13 jun 31 feb 2027 2027-02-30 of the month , / \\ " 999 \u0663 \x00'


@given(st.lists(st.sampled_from(WORDS.split()), max_size=8).map(" ".join) | st.text(max_size=110))
def test_any_text_is_understood_or_not(said: str) -> None:
    try:
        found = read_alone(said, time_zone=PARIS, now=NOW)
    except NotUnderstoodError:
        return
    assert found.due_at is not None
    assert found.due_at.year >= 1969
