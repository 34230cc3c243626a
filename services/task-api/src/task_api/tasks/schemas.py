"""What requests may say and what responses say."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)
from pydantic.config import JsonDict

from chassis.pagination import MAX_BIGINT
from task_api.tasks.models import Priority
from task_api.tasks.recurrence import MAX_RULE_CHARS, Anchor, known_time_zone, parse_rule

MAX_TITLE_CHARS: Final = 200
MAX_DESCRIPTION_CHARS: Final = 10_000
EARLIEST_DUE: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_DUE: Final = datetime(2200, 1, 1, tzinfo=UTC)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)")


def without_nul(value: str) -> str:
    """Refuse what PostgreSQL cannot store."""
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
    AfterValidator(without_nul),
    AfterValidator(_not_blank),
]
Description = Annotated[
    str,
    Field(max_length=MAX_DESCRIPTION_CHARS, examples=["Two litres, the blue one"]),
    AfterValidator(without_nul),
]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_date_time_text),
    AfterValidator(_sensible),
    Field(examples=["2027-01-31T09:00:00Z"]),
]
DueAt = Moment
MAX_TAGS: Final = 20
MAX_TAG_CHARS: Final = 50


def _tidy_tag(value: str) -> str:
    """Give the one form of a tag: composed, lower case, single spaces."""
    tag = " ".join(unicodedata.normalize("NFC", value).lower().split())
    if not tag:
        raise ValueError("must not be blank")
    if len(tag) > MAX_TAG_CHARS:
        raise ValueError(f"must have at most {MAX_TAG_CHARS} characters")
    if not tag.isprintable() and any(unicodedata.category(character) == "Cc" for character in tag):
        raise ValueError("must not contain control characters")
    return tag


Tag = Annotated[str, Field(max_length=4 * MAX_TAG_CHARS, examples=["home"]), AfterValidator(_tidy_tag)]


def _each_once(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS, examples=[["home", "errands"]]), AfterValidator(_each_once)]


ParentId = Annotated[int, Field(ge=1, le=MAX_BIGINT, description="id of the task that this is a subtask of")]


class TaskRequest(BaseModel):
    """A body, or a part of one, in which nothing may be that nobody asked for."""

    model_config = ConfigDict(extra="forbid")


def _rule(value: str) -> str:
    return str(parse_rule(without_nul(value)))


def _time_zone(value: str) -> str:
    if not known_time_zone(value):
        raise ValueError("must be the IANA name of a time zone, e.g. Europe/Paris")
    return value


RuleText = Annotated[
    str,
    Field(max_length=MAX_RULE_CHARS, description="RRULE of RFC 5545", examples=["FREQ=WEEKLY;BYDAY=MO,TH"]),
    AfterValidator(_rule),
]
AnchorOf = Annotated[Anchor, Field(description="what the next due date is counted from", examples=["due"])]
TimeZone = Annotated[str, Field(max_length=64, examples=["Europe/Paris"]), AfterValidator(_time_zone)]


class RecurrenceIn(TaskRequest):
    """How a new task comes again."""

    rule: RuleText
    anchor: AnchorOf = "due"
    time_zone: TimeZone = "UTC"


EngagementId = Annotated[
    int,
    Field(ge=1, le=MAX_BIGINT, description="the engagement that the task belongs to, for good; else to the caller"),
]


class TaskCreate(TaskRequest):
    """A new task."""

    title: Title
    description: Annotated[Description | None, Field(description="plain text")] = None
    priority: Priority = "medium"
    due_at: Annotated[DueAt | None, Field(description="RFC 3339 with offset; it is kept and shown in UTC")] = None
    tags: Tags = []
    parent_id: ParentId | None = None
    recurrence: RecurrenceIn | None = None
    engagement_id: EngagementId | None = None


def _without_defaults(schema: JsonDict) -> None:
    """Keep the stand-ins for "not named" out of the OpenAPI document: nothing is set by default."""
    properties = schema["properties"]
    if isinstance(properties, dict):
        for field in properties.values():
            if isinstance(field, dict):
                field.pop("default", None)


class RecurrenceReplace(TaskRequest):
    """How a task comes again from now on."""

    rule: RuleText
    anchor: AnchorOf
    time_zone: TimeZone


class TaskReplace(TaskRequest):
    """All that a caller can set. Every field is required, as a missing one would be wiped."""

    title: Title
    description: Description | None
    priority: Priority
    due_at: DueAt | None
    completed: StrictBool
    tags: Tags
    parent_id: ParentId | None
    recurrence: RecurrenceReplace | None

    def changes(self) -> dict[str, Any]:
        """Give all that can be set."""
        return self.model_dump()


def _as_a_patch(schema: JsonDict) -> None:
    _without_defaults(schema)
    schema["examples"] = [{"priority": "high"}]


class RecurrencePatch(TaskRequest):
    """What to change about how a task comes again."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    rule: RuleText = ""
    anchor: AnchorOf = "due"
    time_zone: TimeZone = "UTC"


class TaskPatch(TaskRequest):
    """What to change; a field that is not named stays as it is, `null` clears one that may be empty."""

    model_config = ConfigDict(json_schema_extra=_as_a_patch)

    title: Title = ""
    description: Description | None = None
    priority: Priority = "medium"
    due_at: DueAt | None = None
    completed: StrictBool = False
    tags: Tags = []
    parent_id: ParentId | None = None
    recurrence: RecurrencePatch | None = None

    def changes(self) -> dict[str, Any]:
        """Give only the fields the caller named."""
        return self.model_dump(exclude_unset=True)


class TaskMove(TaskRequest):
    """Where to put a task in its owner's order: right after or right before another one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"after": 12}, {"before": 12}]})

    after: Annotated[int, Field(ge=1, le=MAX_BIGINT)] | None = None
    before: Annotated[int, Field(ge=1, le=MAX_BIGINT)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.after is None) == (self.before is None):
            raise ValueError("name either after or before")
        return self


class RecurrenceOut(BaseModel):
    """How a task comes again."""

    rule: Annotated[str, Field(examples=["FREQ=WEEKLY;BYDAY=MO,TH"])]
    anchor: Annotated[Anchor, Field(examples=["due"])]
    time_zone: Annotated[str, Field(examples=["Europe/Paris"])]


class TaskContent(BaseModel):
    """What a task is, wherever it is. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(description="never used again, not even after deletion", examples=[7])]
    title: Annotated[str, Field(examples=["Buy milk"])]
    description: Annotated[str | None, Field(examples=["Two litres, the blue one"])]
    priority: Annotated[Priority, Field(examples=["medium"])]
    due_at: Annotated[datetime | None, Field(examples=["2027-01-31T09:00:00Z"])]
    tags: Annotated[list[str], Field(examples=[["home", "errands"]])]
    parent_id: Annotated[int | None, Field(description="the task that this is a subtask of", examples=[None])]
    recurrence: Annotated[RecurrenceOut | None, Field(description="null when it does not come again", examples=[None])]
    position: Annotated[
        str, Field(description="sorts the owner's own order, byte by byte; opaque", examples=["06441818e3a940"])
    ]
    completed: bool
    completed_at: Annotated[datetime | None, Field(description="null while it is open")]
    version: Annotated[int, Field(description="grows by one with every change", examples=[1])]
    created_at: datetime
    updated_at: datetime


class TaskOut(TaskContent):
    """A task. Times are RFC 3339 in UTC."""

    engagement_id: Annotated[
        int | None, Field(description="the engagement that it is in; null for a personal task", examples=[None])
    ]
