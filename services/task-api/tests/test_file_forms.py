"""The forms of files by themselves: any text goes through them unharmed, however a file is cut into pieces."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from task_api.portability.csv_form import COLUMNS, cells_of, csv_lines, guarded, row_of, unguarded, values_of
from task_api.portability.records import CsvRecords, JsonRecords, Record, Records
from task_api.portability.schemas import ExportedTask

AWKWARD = "=+-@'\"\t\r\n,;\\\uff1d {}[]:\ufeff\u202e\u05d0\U0001f469\u200d\U0001f52c\u0301"
TEXTS = st.text(
    st.sampled_from(AWKWARD) | st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=9
)
PIECES = st.integers(1, 7)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def records_of(make: Callable[[], Records], content: bytes, size: int) -> list[Record]:
    records = make()
    found = [record for begin in range(0, len(content), size) for record in records.feed(content[begin : begin + size])]
    return found + list(records.close())


@given(text=TEXTS)
@example("=1")
@example("'=1")
@example("''\t")
@example("\uff20x")
def test_a_guarded_text_is_no_formula_and_comes_back(text: str) -> None:
    assert not guarded(text).startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
    assert unguarded(guarded(text)) == text


@given(texts=st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=4), size=PIECES, bom=st.booleans())
def test_csv_is_cut_where_its_rows_end(texts: list[list[str]], size: int, bom: bool) -> None:
    rows = [["a", "b"], *texts, ["end", ""]]
    content = b"\xef\xbb\xbf" * bom + csv_lines(rows)
    found = records_of(CsvRecords, content, size)
    assert [cells_of(record) for record in found] == rows
    assert [record.line for record in found] == [
        1 + b"".join(before.content for before in found[:at]).count(b"\n") for at in range(len(found))
    ]


@given(
    tasks=st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=3),
    size=PIECES,
    indent=st.sampled_from([None, 1]),
    escaped=st.booleans(),
)
def test_json_is_cut_into_its_tasks(tasks: list[Any], size: int, indent: int | None, escaped: bool) -> None:
    whole = {"format": "taskwire-tasks", "more": '[{"', "version": 1, "tasks": tasks}
    content = json.dumps(whole, indent=indent, ensure_ascii=escaped).encode()
    found = records_of(JsonRecords, content, size)
    assert [json.loads(record.content) for record in found] == tasks
    if indent is not None:
        assert all(content.split(b"\n")[record.line - 1].strip() in {b"{", b"{}", b"{},"} for record in found)


@given(
    title=TEXTS,
    description=TEXTS.filter(bool) | st.none(),
    tags=st.lists(TEXTS.filter(bool), max_size=4),
    rule=st.sampled_from([None, "FREQ=DAILY"]),
)
def test_a_row_of_csv_says_what_the_task_says(
    title: str, description: str | None, tags: list[str], rule: str | None
) -> None:
    task = {
        "id": 7, "parent_id": None, "title": title or "x", "description": description, "priority": "low", "tags": tags,
        "due_at": None, "completed": False, "completed_at": None, "position": "0", "version": 3,
        "recurrence": {"rule": rule, "anchor": "due", "time_zone": "UTC"} if rule else None,
        "created_at": "2026-11-21T00:00:00Z", "updated_at": "2026-11-21T00:00:00Z",
    }  # fmt: skip
    line = csv_lines([row_of(ExportedTask.model_validate(task))])
    (cells,) = csv.reader(io.StringIO(line.decode(), newline=""), strict=True)
    said = values_of(dict(zip(COLUMNS, cells, strict=True)))
    expected = {name: value for name, value in task.items() if value not in (None, [])}
    assert said == expected | {"id": "7", "version": "3"}
