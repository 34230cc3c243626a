"""A task as it is in a file, and what an import is answered."""

from datetime import datetime, time
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StrictBool, WithJsonSchema, model_validator

from chassis.errors import FieldProblem
from chassis.pagination import MAX_BIGINT
from task_api.portability.records import FORMAT, FORMAT_VERSION
from task_api.tasks.models import Priority
from task_api.tasks.recurrence import StoredRecurrence
from task_api.tasks.schemas import (
    Description,
    Moment,
    RecurrenceIn,
    RecurrenceOut,
    Tags,
    TaskContent,
    TaskRequest,
    Title,
)

MAX_REFERENCE_CHARS: Final = 64
MAX_REPORTED: Final = 100
"""Problems, and as many remarks, that a report names; more are only counted."""


def _reference(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_BIGINT:
        return str(value)
    if isinstance(value, str) and not (value.isprintable() and value.strip()):
        raise ValueError("must have printable characters only, and one at least")
    return value


def _wall_time(value: str) -> str:
    try:
        found = time.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None:
        raise ValueError("must be a time of day, e.g. 02:30:00")
    return found.isoformat()


Reference = Annotated[
    str,
    Field(min_length=1, max_length=MAX_REFERENCE_CHARS),
    BeforeValidator(_reference),
    WithJsonSchema({"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_REFERENCE_CHARS}),
]


class PortableRecurrence(RecurrenceIn):
    """How a task comes again."""

    at: Annotated[str, Field(max_length=15), AfterValidator(_wall_time)] | None = None

    def stored(self) -> StoredRecurrence:
        """Give it as it lies in the database."""
        found: StoredRecurrence = {"rule": self.rule, "anchor": self.anchor, "time_zone": self.time_zone}
        if self.at is not None:
            found["at"] = self.at
        return found


class PortableTask(TaskRequest):
    """A task in a file that is imported; what an export has besides is taken and not used."""

    id: Reference | None = None
    parent_id: Reference | None = None
    title: Title
    description: Description | None = None
    priority: Priority = "medium"
    due_at: Moment | None = None
    tags: Annotated[Tags, Field(default_factory=list)]
    recurrence: PortableRecurrence | None = None
    completed: StrictBool = False
    completed_at: Moment | None = None
    created_at: Moment | None = None
    updated_at: object = None
    position: object = None
    version: object = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.completed_at is not None and not self.completed:
            raise ValueError("completed_at needs completed to be true")
        if self.recurrence is not None and self.recurrence.anchor == "due" and self.due_at is None:
            raise ValueError("recurrence with the anchor due needs due_at, to count from")
        return self


class ExportedRecurrence(RecurrenceOut):
    """How a task comes again, with the time of day that is meant when the clocks skipped it."""

    at: Annotated[str | None, Field(description="time that the clocks skipped this once", examples=[None])] = None


class ExportedTask(TaskContent):
    """A task in an exported file; everything it has but the space it was in."""

    recurrence: ExportedRecurrence | None


class TaskFile(BaseModel):
    """An exported file: a head, then a task on each line, what is above others first."""

    format: Literal["taskwire-tasks"] = FORMAT
    version: Literal[1] = FORMAT_VERSION
    exported_at: datetime
    tasks: list[ExportedTask]


class ImportProblem(BaseModel):
    """A task of the file that was not imported."""

    line: Annotated[int, Field(description="of the file, where the task begins", examples=[7])]
    id: Annotated[str | None, Field(description="that the task has in the file", examples=["12"])]
    code: Annotated[str, Field(description="stable, for programs", examples=["validation_error"])]
    detail: Annotated[str, Field(examples=["title: String should have at least 1 character"])]
    errors: Annotated[list[FieldProblem] | None, Field(examples=[None])]


class ImportRemark(BaseModel):
    """Something of a task that was imported but could not be taken over as it is."""

    line: Annotated[int, Field(examples=[9])]
    code: Annotated[str, Field(examples=["date_not_understood"])]
    detail: Annotated[str, Field(examples=["DATE is not understood and was left out: every blue moon"])]


class ImportReport(BaseModel):
    """What became of the tasks in a file."""

    dry_run: Annotated[bool, Field(description="nothing was written; `created` would be")]
    format: Annotated[Literal["json", "csv", "todoist"], Field(examples=["csv"])]
    tasks: Annotated[int, Field(description="in the file", examples=[3])]
    created: Annotated[int, Field(examples=[1])]
    already_imported: Annotated[
        int, Field(description="by an earlier request with the same `Idempotency-Key`", examples=[1])
    ]
    failed: Annotated[int, Field(examples=[1])]
    comments: Annotated[int, Field(description="on the tasks that were created, from notes of Todoist", examples=[0])]
    problems: Annotated[list[ImportProblem], Field(description=f"the first {MAX_REPORTED} that failed")]
    remarks: Annotated[list[ImportRemark], Field(description=f"the first {MAX_REPORTED}")]
    remarks_total: Annotated[int, Field(examples=[1])]


IMPORT_EXAMPLE: Final[dict[str, Any]] = {
    "format": FORMAT,
    "version": FORMAT_VERSION,
    "tasks": [
        {"id": 1, "title": "Move house", "tags": ["home"], "due_at": "2027-01-31T09:00:00Z"},
        {"id": 2, "parent_id": 1, "title": "Pack", "completed": True},
    ],
}
CSV_EXAMPLE: Final = "id,parent_id,title,tags,completed\r\n1,,Move house,home,false\r\n2,1,Pack,,true\r\n"
