"""The CSV that Todoist exports and backs up projects as, read as it is.

Columns are known by their names, as older exports have fewer. `task` rows are tasks, below each other by INDENT;
a `note` row is a comment on the task above it, a `section` row belongs to all below it.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from task_api.comments.intake import CommentArrival
from task_api.comments.schemas import MAX_BODY_CHARS
from task_api.comments.service import MAX_COMMENTS
from task_api.plain_words.alone import NotUnderstoodError, read_alone
from task_api.plain_words.due import Due
from task_api.portability.rows import FileRow, Remarks
from task_api.tasks.recurrence import known_time_zone
from task_api.tasks.schemas import (
    EARLIEST_DUE,
    LATEST_DUE,
    MAX_TAG_CHARS,
    MAX_TAGS,
    MAX_TITLE_CHARS,
)

SIGNATURE: Final = {"TYPE", "CONTENT"}
_PRIORITIES: Final = {"1": "high", "2": "medium", "3": "medium", "4": "low", "": "medium"}
_LABEL: Final = re.compile(r"(?:(?<=\s)|^)@([^\s@]\S*)(?:\s+|$)")
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE
)
_SHOWN: Final = 100
_MAX_NOTED_CHARS: Final = 1_000_000
"""Of the notes of one task, which are held until it is written."""


class TodoistRows:
    """Reads the rows of one such file."""

    def __init__(self, *, now: datetime, time_zone: str) -> None:
        """Say what dates are counted from, and the time zone of rows that name none."""
        self._now, self._time_zone = now, time_zone
        self._above: list[tuple[int, str]] = []
        self._section: str | None = None
        self._held: tuple[FileRow, dict[str, Any]] | None = None
        self._remarks = Remarks()
        self._noted = 0

    def read(self, line: int, number: int, cells: Mapping[str, str]) -> Iterator[FileRow]:
        """Take a row, and give the task whose notes have all been read."""
        said = {name: cell.strip() for name, cell in cells.items()}
        match said.get("TYPE", ""):
            case "task":
                yield from self.end()
                self._task(FileRow(line, number, remarks=self._remarks), said)
            case "note" if self._held is not None:
                self._note(line, said)
            case "section":
                yield from self.end()
                self._begin_section(line, said.get("CONTENT", ""))
            case "meta":
                pass  # how Todoist shows the project
            case "" if not any(said.values()):
                pass
            case _:
                self._remark(line, "row_left_out", "a row whose TYPE has no place here was left out")

    def end(self) -> Iterator[FileRow]:
        """Give the last task."""
        if self._held is not None:
            row, values = self._held
            self._held = None
            yield row.say(values)

    def _remark(self, line: int, code: str, detail: str) -> None:
        (self._remarks if self._held is None else self._held[0].remarks).add(line, code, detail)

    def _begin_section(self, line: int, name: str) -> None:
        self._above.clear()
        self._section = " ".join(name.split()) or None
        if self._section is not None and len(self._section) > MAX_TAG_CHARS:
            self._remark(line, "section_left_out", f"a name of more than {MAX_TAG_CHARS} characters is no tag")
            self._section = None

    def _task(self, row: FileRow, said: Mapping[str, str]) -> None:
        self._remarks, self._noted = Remarks(), 0
        self._place(row, said.get("INDENT", ""))
        title, tags = _labels(said.get("CONTENT", ""))
        tags = [*dict.fromkeys([*tags, *([self._section] if self._section else [])])]
        if len(tags) > MAX_TAGS:
            row.remark("labels_left_out", f"a task has at most {MAX_TAGS} tags; the others were left out")
        values: dict[str, Any] = {
            "title": title,
            "description": said.get("DESCRIPTION") or None,
            "priority": _PRIORITIES.get(said.get("PRIORITY", ""), said.get("PRIORITY")),
            "tags": tags[:MAX_TAGS],
        }
        if len(title) > MAX_TITLE_CHARS:
            row.remark("title_shortened", f"a title has at most {MAX_TITLE_CHARS} characters; the description has all")
            values["title"] = title[: MAX_TITLE_CHARS - 1].rstrip() + "…"
            values["description"] = "\n\n".join(filter(None, (title, values["description"])))
        self._held = (row, values | self._when(row, said))

    def _place(self, row: FileRow, indent: str) -> None:
        level = int(indent) if indent.isascii() and indent.isdigit() and len(indent) < 3 else 1  # noqa: PLR2004
        while self._above and self._above[-1][0] >= level:
            self._above.pop()
        row.above = self._above[-1][1] if self._above else None
        self._above.append((level, row.reference))

    def _note(self, line: int, said: Mapping[str, str]) -> None:
        assert self._held is not None  # noqa: S101  (asked by the caller)
        (row, _), content = self._held, said.get("CONTENT", "")
        written = _moment(said.get("DATE") or said.get("DUE_DATE") or "", "UTC")
        at = None if written is None else written.due_at
        bodies = [content[start : start + MAX_BODY_CHARS] for start in range(0, len(content), MAX_BODY_CHARS)]
        comments = [CommentArrival(body, at) for body in bodies if body.strip()]
        if "\x00" in content:
            self._remark(line, "note_left_out", "a comment must not contain NUL")
        elif len(row.comments) + len(comments) > MAX_COMMENTS or self._noted + len(content) > _MAX_NOTED_CHARS:
            room = (
                f"a task has at most {MAX_COMMENTS} comments, of {_MAX_NOTED_CHARS} characters together from one file"
            )
            self._remark(line, "note_left_out", f"no room: {room}")
        else:
            row.comments += comments
            self._noted += len(content)

    def _when(self, row: FileRow, said: Mapping[str, str]) -> dict[str, Any]:
        name = said.get("TIMEZONE") or self._time_zone
        if not known_time_zone(name):
            row.remark("time_zone_not_known", f"TIMEZONE is not known; {self._time_zone} was taken")
            name = self._time_zone
        for column in ("DATE", "DEADLINE"):
            text = said.get(column) or said.get(f"DUE_{column}") or ""
            if not text:
                continue
            when = self._read(text, said.get(f"{column}_LANG") or said.get(f"DUE_{column}_LANG") or "en", name)
            if when is not None:
                return _due(when)
            row.remark("date_not_understood", f"{column} is not understood and was left out: {text[:_SHOWN]}")
        return {}

    def _read(self, text: str, language: str, zone: str) -> Due | None:
        if _MOMENT.fullmatch(text):
            return _moment(text, zone)
        if not language.lower().startswith("en") and not text[:1].isdigit():
            return None
        try:
            return read_alone(text, time_zone=zone, now=self._now)
        except NotUnderstoodError:
            return None


def _moment(text: str, zone: str) -> Due | None:
    try:
        found = datetime.fromisoformat(text)
        due_at = (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return Due(due_at, None) if EARLIEST_DUE <= due_at < LATEST_DUE else None


def _due(due: Due) -> dict[str, Any]:
    assert due.due_at is not None  # noqa: S101  (what is understood says when)
    found: dict[str, Any] = {"due_at": due.due_at.isoformat()}
    return found if due.recurrence is None else found | {"recurrence": due.recurrence}


def _labels(content: str) -> tuple[str, list[str]]:
    """Take the labels out of a title; one that is nothing but labels stays as it is."""
    labels = [label for label in _LABEL.findall(content) if len(label) <= MAX_TAG_CHARS]
    rest = _LABEL.sub(lambda found: found[0] if len(found[1]) > MAX_TAG_CHARS else "", content).strip()
    return (rest, labels) if rest else (content, labels)
