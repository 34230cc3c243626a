"""Tasks as rows of CSV (RFC 4180, UTF-8), out and in.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a line break is a formula to spreadsheet programs, and whoever can
get a task into somebody's list could run it there. Such a cell is written with an apostrophe before it. So that reading
gives back every text, a cell that begins with apostrophes and then such a character gets one more, and reading takes
away exactly one.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chassis.errors import FieldProblem, InvalidInputError
from task_api.portability.records import InvalidFileError, Record
from task_api.portability.schemas import ExportedTask

COLUMNS: Final = (
    "id",
    "parent_id",
    "title",
    "description",
    "priority",
    "due_at",
    "tags",
    "recurrence_rule",
    "recurrence_anchor",
    "recurrence_time_zone",
    "recurrence_at",
    "completed",
    "completed_at",
    "created_at",
    "updated_at",
    "position",
    "version",
)
_RECURRENCE: Final = "recurrence_"
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_GUARDED: Final = re.compile(r"'+[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_ESCAPED_IN_TAG: Final = re.compile(r"[\\,]")
_TAG: Final = re.compile(r"((?:[^\\,]|\\.|\\\Z)*)(?:,|\Z)", re.DOTALL)
_BOOLEANS: Final = {"true": True, "false": False}


class UnreadableRowError(InvalidInputError):
    """A row of the file cannot be read."""


def guarded(text: str) -> str:
    """Keep a spreadsheet program from taking a text for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """Undo `guarded`."""
    return text[1:] if _GUARDED.match(text) else text


def csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Write rows."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def row_of(task: ExportedTask) -> list[str]:
    """Give the cells of a task."""
    values: dict[str, Any] = task.model_dump(mode="json")
    recurrence = values.pop("recurrence") or {}
    values |= {_RECURRENCE + name: value for name, value in recurrence.items()}
    values["tags"] = ",".join(_ESCAPED_IN_TAG.sub(r"\\\g<0>", tag) for tag in values["tags"])
    return [_cell(values.get(name)) for name in COLUMNS]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else guarded(str(value))


def cells_of(record: Record) -> list[str]:
    """Read the cells of a record.

    Raises:
        InvalidFileError: It is not UTF-8.
        UnreadableRowError: It is not CSV.
    """
    try:
        text = record.content.decode()
    except UnicodeDecodeError:
        raise InvalidFileError(record.line, "the file is not UTF-8") from None
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise UnreadableRowError(f"not a row of CSV: {error}") from None


def check_header(line: int, header: Sequence[str]) -> None:
    """Make sure that columns are ours, each there once, and with a title.

    Raises:
        InvalidFileError: They are not.
    """
    unknown = [number for number, name in enumerate(header, start=1) if name not in COLUMNS]
    if unknown:
        message = f"column {unknown[0]} of the header is not known; there are {', '.join(COLUMNS)}"
        raise InvalidFileError(line, message)
    if len(set(header)) < len(header) or "title" not in header:
        raise InvalidFileError(line, "the header must have the column title, and each column once")


def values_of(cells: Mapping[str, str]) -> dict[str, Any]:
    """Give what the cells of a row say of a task, in the form that JSON has; an empty cell says nothing.

    Raises:
        UnreadableRowError: A cell is not what its column wants.
    """
    said: dict[str, Any] = {name: unguarded(cell) for name, cell in cells.items() if cell}
    recurrence = {name: said.pop(name) for name in list(said) if name.startswith(_RECURRENCE)}
    if recurrence:
        said["recurrence"] = {name.removeprefix(_RECURRENCE): value for name, value in recurrence.items()}
    if "tags" in said:
        said["tags"] = _tags(said["tags"])
    if "completed" in said:
        completed = _BOOLEANS.get(said["completed"].lower())
        if completed is None:
            problem = FieldProblem(field="completed", message="must be true or false")
            raise UnreadableRowError("completed: must be true or false", errors=[problem])
        said["completed"] = completed
    return said


def _tags(cell: str) -> list[str]:
    return [re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) for found in _TAG.finditer(cell) if found[0]]
