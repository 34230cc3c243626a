"""A row of a file, read and checked as far as it can be alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from chassis.errors import ApiError, InvalidInputError, field_problems
from chassis.pagination import MAX_BIGINT
from task_api.comments.intake import CommentArrival
from task_api.portability.schemas import MAX_REFERENCE_CHARS, MAX_REPORTED, ImportRemark, PortableTask

_NOT_OF_A_TASK: Final = {"id", "parent_id", "recurrence", "updated_at", "position", "version"}


@dataclass
class Remarks:
    """What a caller is told of a row; of very many only the first ones are kept.

    Attributes:
        total: How many there are.
    """

    total: int = 0
    _first: list[ImportRemark] = field(default_factory=list)

    def __iter__(self) -> Iterator[ImportRemark]:
        """Give the first ones."""
        return iter(self._first)

    def add(self, line: int, code: str, detail: str) -> None:
        """Tell something."""
        self.total += 1
        if self.total <= MAX_REPORTED:
            self._first.append(ImportRemark(line=line, code=code, detail=detail))


@dataclass
class FileRow:
    """What a file says in one row.

    Attributes:
        line: In which it begins.
        id: That it has in the file.
        number: Among the rows of the file, from 1.
        above: `reference` of the row that it goes below.
        task: What it says; None when it is refused.
        comments: On the task.
        error: Why it is.
        remarks: What could not be taken over as it is.
        unreadable: Whether not even its place is known.
    """

    line: int
    number: int
    id: str | None = None
    above: str | None = None
    task: PortableTask | None = None
    error: ApiError | None = None
    comments: list[CommentArrival] = field(default_factory=list)
    remarks: Remarks = field(default_factory=Remarks)
    unreadable: bool = False

    @property
    def reference(self) -> str:
        """What the row is known by when the file is sent again: its id, without one its number."""
        return f"row {self.number}" if self.id is None else f"id {self.id}"

    @property
    def chars(self) -> int:
        """How much it says."""
        noted = sum(len(comment.body) for comment in self.comments)
        return 0 if self.task is None else len(self.task.title) + len(self.task.description or "") + noted

    def remark(self, code: str, detail: str) -> None:
        """Tell the caller something."""
        self.remarks.add(self.line, code, detail)

    def say(self, values: Mapping[str, Any]) -> "FileRow":
        """Check what the row says of a task, and keep it or why it cannot be."""
        self.id, above = _reference(values.get("id")), _reference(values.get("parent_id"))
        self.above = self.above if above is None else f"id {above}"
        try:
            self.task = PortableTask.model_validate(values)
        except ValidationError as error:
            problems = field_problems(error.errors(include_url=False, include_input=False, include_context=False))
            detail = "; ".join(f"{one.field}: {one.message}".removeprefix(": ") for one in problems[:3])
            self.error = InvalidInputError(detail, errors=problems)
        return self

    def fields(self) -> dict[str, Any]:
        """Give what the task says, for the task model."""
        assert self.task is not None  # noqa: S101  (asked of rows that were not refused)
        recurrence = self.task.recurrence
        values = {name: getattr(self.task, name) for name in type(self.task).model_fields if name not in _NOT_OF_A_TASK}
        return values | {"recurrence": None if recurrence is None else recurrence.stored()}


def _reference(value: object) -> str | None:
    """Give an id of a file where it is one; what is none is refused with the rest of the row."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_BIGINT:
        return str(value)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_REFERENCE_CHARS else None
