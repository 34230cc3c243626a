"""Cuts a stream of bytes into records. Holds one unfinished record at a time and never more than its limit."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic_core import from_json

from chassis.errors import FieldProblem, InvalidInputError

MAX_RECORD_BYTES: Final = 262_144
"""Of one task in a file. The longest title, description and tags take 174,000 when JSON escapes every character."""
MAX_HEAD_BYTES: Final = 4_096
MAX_NESTING: Final = 8
FORMAT: Final = "taskwire-tasks"
FORMAT_VERSION: Final = 1
_BOM: Final = b"\xef\xbb\xbf"
# A string, as far as it is there as a whole; else its quote alone.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\],]', re.DOTALL)
_SHAPE: Final = f'the file must begin with {{"format": "{FORMAT}", "version": {FORMAT_VERSION}, "tasks": ['
_CUT_OFF: Final = "the file ends here in the middle of something: it was cut off"


class InvalidFileError(InvalidInputError):
    """The file cannot be read on from some line; what is above it was imported."""

    code = "invalid_file"

    def __init__(self, line: int, message: str, *, imported: int | None = None) -> None:
        """Say what is wrong, in which line, counted from 1, and how many tasks above it are imported."""
        done = "" if imported is None else f" Of the tasks above it, {imported} are imported."
        problem = FieldProblem(field=f"line {line}", message=message)
        super().__init__(f"Line {line}: {message}.{done}", errors=[problem])
        self.line, self.message = line, message


@dataclass(frozen=True)
class Record:
    """What stands for one row, and the line it begins in, counted from 1."""

    line: int
    content: bytes


class Records(Protocol):
    """Takes a file piece by piece."""

    def feed(self, piece: bytes) -> Iterator[Record]:
        """Take a piece and give the records that end in it.

        Raises:
            InvalidFileError: It cannot be read on.
        """
        ...

    def close(self) -> Iterator[Record]:
        """Give what is left at the end of the file.

        Raises:
            InvalidFileError: The end is missing.
        """
        ...


class _Held:
    """The bytes that belong to no record yet."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.line = 1
        self._begun = False

    def take(self, piece: bytes) -> None:
        """Add a piece, without the mark that some programs begin a file with."""
        self.held += piece
        if not self._begun and len(self.held) >= len(_BOM):
            self._begun = True
            if self.held.startswith(_BOM):
                del self.held[: len(_BOM)]

    def cut(self, end: int) -> bytes:
        """Take bytes away from the front."""
        content = bytes(self.held[:end])
        del self.held[:end]
        self.line += content.count(b"\n")
        return content

    def check_size(self, size: int) -> None:
        """Refuse a record that is too long."""
        if size > MAX_RECORD_BYTES:
            raise InvalidFileError(self.line, f"a task takes more than {MAX_RECORD_BYTES} bytes, or a quote is open")

    @property
    def only_space(self) -> bool:
        """Tell whether nothing is held that means anything."""
        return not self.held.strip()

    def refusal(self, message: str) -> InvalidFileError:
        """Refuse what comes next, after white space."""
        self.cut(len(self.held) - len(self.held.lstrip()))
        return InvalidFileError(self.line, message)


class CsvRecords(_Held):
    """Records of RFC 4180: lines, and a line break within quotes ends none."""

    def __init__(self) -> None:
        super().__init__()
        self._looked, self._quoted = 0, False

    def feed(self, piece: bytes) -> Iterator[Record]:
        """See `Records`."""
        self.take(piece)
        while (found := self.held.find(b"\n", self._looked)) >= 0:
            end = found + 1
            self._look(end)
            self.check_size(end)
            if not self._quoted:
                self._looked = 0
                line = self.line
                yield Record(line, self.cut(end))
        self.check_size(len(self.held))

    def close(self) -> Iterator[Record]:
        """See `Records`."""
        self._look(len(self.held))
        if self._quoted:
            raise InvalidFileError(self.line, "a quote is opened here and never closed")
        if not self.only_space:
            line = self.line
            yield Record(line, self.cut(len(self.held)))

    def _look(self, end: int) -> None:
        if self.held.count(b'"', self._looked, end) % 2:
            self._quoted = not self._quoted
        self._looked = end


class JsonRecords(_Held):
    """The objects in `tasks` of one JSON document, whatever white space it has."""

    def __init__(self) -> None:
        super().__init__()
        self._looked, self._depth = 0, 0
        self._place = self._in_head

    def feed(self, piece: bytes) -> Iterator[Record]:
        """See `Records`."""
        self.take(piece)
        yield from self._place()
        if self._place != self._in_head:
            self.check_size(len(self.held))

    def close(self) -> Iterator[Record]:
        """See `Records`."""
        if self._place != self._at_end:
            raise InvalidFileError(self.line, _SHAPE if self._place == self._in_head else _CUT_OFF)
        yield from ()

    def _in_head(self) -> Iterator[Record]:
        start = self._tasks_begin()
        if start is None:
            if len(self.held) > MAX_HEAD_BYTES:
                raise InvalidFileError(self.line, _SHAPE)
            return
        self._check_head(start)
        self.cut(start + 1)
        self._place = self._in_tasks
        yield from self._in_tasks()

    def _tasks_begin(self) -> int | None:
        """Give where the bracket of `tasks` is; None while it is yet to come."""
        for number, match in enumerate(_TOKEN.finditer(bytes(self.held[:MAX_HEAD_BYTES]))):
            if match[0] == b'"':  # its end is yet to come
                return None
            if (match[0] == b"{") != (number == 0) or match[0] in {b"}", b"]"}:
                raise InvalidFileError(self.line, _SHAPE)
            if match[0] == b"[":
                return match.start()
        return None

    def _check_head(self, end: int) -> None:
        try:
            head = from_json(bytes(self.held[:end]) + b"[]}")
        except ValueError:
            head = None
        if not isinstance(head, dict) or next(reversed(head), None) != "tasks" or head.get("format") != FORMAT:
            raise InvalidFileError(self.line, _SHAPE)
        if head.get("version") != FORMAT_VERSION:
            raise InvalidFileError(self.line, f"this version of the format is not known; {FORMAT_VERSION} is")

    def _in_tasks(self) -> Iterator[Record]:
        while match := _TOKEN.search(self.held, self._looked):
            start, end, token = match.start(), match.end(), self.held[match.start()]
            del match  # as long as it is there, the bytes cannot be cut
            if token == ord('"') and end - start == 1:
                self._looked = start  # its end is yet to come
                return
            if not self._depth:
                if token == ord("]") and not self.held[:start].strip():
                    self.cut(end)
                    self._place = self._at_tail
                    yield from self._at_tail()
                    return
                if token not in b"{," or self.held[:start].strip():
                    raise self.refusal("tasks must be objects, with a comma between two of them")
                self.cut(start if token == ord("{") else end)
                end = end - start if token == ord("{") else 0
            self._looked = end
            self._depth += (token in b"{[") - (token in b"}]")
            if self._depth > MAX_NESTING:
                raise InvalidFileError(self.line, f"the nesting is deeper than {MAX_NESTING} levels")
            if not self._depth and token in b"}]":
                self.check_size(end)
                line = self.line
                yield Record(line, self.cut(end))
                self._looked = 0

    def _at_tail(self) -> Iterator[Record]:
        if not self.only_space:
            start = len(self.held) - len(self.held.lstrip())
            if self.held[start] != ord("}"):
                raise self.refusal("after the tasks there may only be the closing bracket")
            self.cut(start + 1)
            self._place = self._at_end
            yield from self._at_end()

    def _at_end(self) -> Iterator[Record]:
        if not self.only_space:
            raise self.refusal("there is something after the end")
        self.cut(len(self.held))
        yield from ()
