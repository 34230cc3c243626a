"""Turns the bytes of a file into rows, in any of the forms that are read."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, Literal, Protocol

from pydantic_core import from_json

from chassis.errors import InvalidInputError
from task_api.portability.csv_form import UnreadableRowError, cells_of, check_header, values_of
from task_api.portability.records import CsvRecords, InvalidFileError, JsonRecords, Record
from task_api.portability.rows import FileRow
from task_api.portability.todoist import SIGNATURE, TodoistRows

FileFormat = Literal["json", "csv", "todoist"]
_COLUMNS_AT_MOST: Final = 64


class Reader(Protocol):
    """Reads one file, piece by piece."""

    @property
    def format(self) -> FileFormat:
        """In which form the file is; of CSV it is known from the header on."""
        ...

    def feed(self, piece: bytes) -> Iterator[FileRow]:
        """Take a piece and give the rows that end in it.

        Raises:
            InvalidFileError: It cannot be read on.
        """
        ...

    def close(self) -> Iterator[FileRow]:
        """Give the rows that are left at the end.

        Raises:
            InvalidFileError: The end is missing, or there was nothing.
        """
        ...


class JsonReader:
    """Reads `{"format": "taskwire-tasks", …, "tasks": […]}`."""

    format: FileFormat = "json"

    def __init__(self) -> None:
        self._records = JsonRecords()
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[FileRow]:
        """See `Reader`."""
        yield from map(self._row, self._records.feed(piece))

    def close(self) -> Iterator[FileRow]:
        """See `Reader`."""
        yield from map(self._row, self._records.close())

    def _row(self, record: Record) -> FileRow:
        self._number += 1
        row = FileRow(record.line, self._number)
        try:
            record.content.decode()
        except UnicodeDecodeError:
            raise InvalidFileError(record.line, "the file is not UTF-8") from None
        try:
            values = from_json(record.content)
        except ValueError:
            row.error, row.unreadable = UnreadableRowError("not valid JSON"), True
            return row
        return row.say(values)


class CsvReader:
    """Reads CSV, ours or Todoist's, which the header tells."""

    def __init__(self, *, now: datetime, time_zone: str) -> None:
        """Say what Todoist's dates are counted from, and the time zone of those that name none."""
        self._records = CsvRecords()
        self._header: list[str] = []
        self._todoist = TodoistRows(now=now, time_zone=time_zone)
        self._read: Callable[[int, int, Mapping[str, str]], Iterator[FileRow]] = self._own
        self._number = 0

    @property
    def format(self) -> FileFormat:
        """See `Reader`."""
        return "csv" if self._read == self._own else "todoist"

    def feed(self, piece: bytes) -> Iterator[FileRow]:
        """See `Reader`."""
        for record in self._records.feed(piece):
            yield from self._rows(record)

    def close(self) -> Iterator[FileRow]:
        """See `Reader`."""
        for record in self._records.close():
            yield from self._rows(record)
        if not self._header:
            raise InvalidFileError(1, "the file is empty; its first line must name the columns")
        yield from self._todoist.end()

    def _rows(self, record: Record) -> Iterator[FileRow]:
        if not self._header:
            self._begin(record)
            return
        self._number += 1
        try:
            cells = self._cells(record)
        except UnreadableRowError as error:
            yield FileRow(record.line, self._number, error=error, unreadable=True)
            return
        if cells:
            yield from self._read(record.line, self._number, cells)

    def _cells(self, record: Record) -> dict[str, str]:
        cells = cells_of(record)
        if not any(cells):
            return {}
        if len(cells) != len(self._header):
            raise UnreadableRowError(f"has {len(cells)} cells where the header has {len(self._header)}")
        return dict(zip(self._header, cells, strict=True))

    def _begin(self, record: Record) -> None:
        try:
            header = [name.strip() for name in cells_of(record)]
        except UnreadableRowError as error:
            raise InvalidFileError(record.line, f"the header is {error.detail}") from None
        if len(header) > _COLUMNS_AT_MOST:
            raise InvalidFileError(record.line, f"the header has more than {_COLUMNS_AT_MOST} columns")
        if set(header) >= SIGNATURE:
            self._read = self._todoist.read
        else:
            check_header(record.line, header)
        self._header = header

    def _own(self, line: int, number: int, cells: Mapping[str, str]) -> Iterator[FileRow]:
        row = FileRow(line, number)
        try:
            yield row.say(values_of(cells))
        except InvalidInputError as error:
            row.say({"id": cells.get("id"), "parent_id": cells.get("parent_id")})
            row.task, row.error = None, error
            yield row
