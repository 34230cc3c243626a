"""What requests may say and what responses say."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic.config import JsonDict

from task_api.tasks.models import Priority

MAX_TITLE_CHARS: Final = 200
MAX_DESCRIPTION_CHARS: Final = 10_000
EARLIEST_DUE: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_DUE: Final = datetime(2200, 1, 1, tzinfo=UTC)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)")


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value.strip()


def _date_time_text(value: object) -> object:
    """Refuse what pydantic would take besides RFC 3339: Unix times, bare dates, times without offset."""
    if value is None or (isinstance(value, str) and _DATE_TIME.fullmatch(value)):
        return value
    raise ValueError("must be a date and time with offset as in RFC 3339, e.g. 2027-01-31T09:00:00Z")


def _sensible(value: datetime) -> datetime:
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or not EARLIEST_DUE <= moment < LATEST_DUE:
        raise ValueError(f"must be between {EARLIEST_DUE.year} and {LATEST_DUE.year - 1}")
    return moment


Title = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TITLE_CHARS, examples=["Buy milk"]),
    AfterValidator(_without_nul),
    AfterValidator(_not_blank),
]
Description = Annotated[
    str,
    Field(max_length=MAX_DESCRIPTION_CHARS, examples=["Two litres, the blue one"]),
    AfterValidator(_without_nul),
]
DueAt = Annotated[
    AwareDatetime,
    BeforeValidator(_date_time_text),
    AfterValidator(_sensible),
    Field(examples=["2027-01-31T09:00:00Z"]),
]


class TaskRequest(BaseModel):
    """A body, or a part of one, in which nothing may be that nobody asked for."""

    model_config = ConfigDict(extra="forbid")


class TaskCreate(TaskRequest):
    """A new task."""

    title: Title
    description: Annotated[Description | None, Field(description="plain text")] = None
    priority: Priority = "medium"
    due_at: Annotated[DueAt | None, Field(description="RFC 3339 with offset; it is kept and shown in UTC")] = None


class TaskReplace(TaskRequest):
    """All that a caller can set. Every field is required: a missing one would be wiped."""

    title: Title
    description: Description | None
    priority: Priority
    due_at: DueAt | None
    completed: StrictBool


def _as_a_patch(schema: JsonDict) -> None:
    """Keep the stand-ins for "not named" out of the OpenAPI document: nothing is set by default."""
    schema["examples"] = [{"priority": "high"}]
    properties = schema["properties"]
    if isinstance(properties, dict):
        for field in properties.values():
            if isinstance(field, dict):
                field.pop("default", None)


class TaskPatch(TaskRequest):
    """What to change; a field that is not named stays as it is, `null` clears one that may be empty."""

    model_config = ConfigDict(json_schema_extra=_as_a_patch)

    title: Title = ""
    description: Description | None = None
    priority: Priority = "medium"
    due_at: DueAt | None = None
    completed: StrictBool = False

    def changes(self) -> dict[str, Any]:
        """Give only the fields the caller named."""
        return self.model_dump(exclude_unset=True)


class TaskOut(BaseModel):
    """A task. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(description="never used again, not even after deletion", examples=[7])]
    title: Annotated[str, Field(examples=["Buy milk"])]
    description: Annotated[str | None, Field(examples=["Two litres, the blue one"])]
    priority: Annotated[Priority, Field(examples=["medium"])]
    due_at: Annotated[datetime | None, Field(examples=["2027-01-31T09:00:00Z"])]
    completed: bool
    completed_at: Annotated[datetime | None, Field(description="null while it is open")]
    version: Annotated[int, Field(description="grows by one with every change", examples=[1])]
    created_at: datetime
    updated_at: datetime
