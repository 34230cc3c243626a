"""What quick add is asked and what it answers."""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict, JsonValue

from task_api.plain_words.scan import PartKind
from task_api.quick_add.parser import Reading
from task_api.tasks.models import Priority
from task_api.tasks.schemas import EngagementId, RecurrenceOut, TaskRequest, TimeZone, without_nul

MAX_TEXT_CHARS: Final = 500
_TEXT: Final = "pay rent every 1st at 9am #home !high"
_DRAFT: Final[JsonDict] = {
    "title": "pay rent",
    "priority": "high",
    "due_at": "2026-12-01T08:00:00Z",
    "tags": ["home"],
    "recurrence": {"rule": "FREQ=MONTHLY;BYMONTHDAY=1", "anchor": "due", "time_zone": "Europe/Paris"},
}
_PARTS: Final[list[JsonValue]] = [
    {"kind": "recurrence", "start": 9, "end": 18, "text": "every 1st"},
    {"kind": "time", "start": 19, "end": 25, "text": "at 9am"},
    {"kind": "tag", "start": 26, "end": 31, "text": "#home"},
    {"kind": "priority", "start": 32, "end": 37, "text": "!high"},
]


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


class QuickAddIn(TaskRequest):
    """A line as somebody types it."""

    text: Annotated[
        str,
        Field(min_length=1, max_length=MAX_TEXT_CHARS, examples=[_TEXT]),
        AfterValidator(without_nul),
        AfterValidator(_not_blank),
    ]
    time_zone: Annotated[
        TimeZone,
        Field(
            description="of the writer: whose `tomorrow` and `9am` are meant; "
            "left out: that of the caller's profile, where one is set there"
        ),
    ] = "UTC"

    @property
    def named_time_zone(self) -> str | None:
        """The time zone, if the caller named one."""
        return self.time_zone if "time_zone" in self.model_fields_set else None


class QuickAddCreate(QuickAddIn):
    """A line to make a task of, and where it goes."""

    engagement_id: EngagementId | None = None


class QuickAddPart(BaseModel):
    """A part of the text that was understood, for a frontend to highlight."""

    kind: PartKind
    start: Annotated[int, Field(description="first character, in Unicode code points from 0")]
    end: Annotated[int, Field(description="the one after the last")]
    text: str


class QuickAddDraft(BaseModel):
    """The task that the text describes: a body for `POST /tasks`, once it has a title."""

    title: Annotated[str, Field(description="what is left of the text; empty when all of it was understood")]
    priority: Priority
    due_at: datetime | None
    tags: list[str]
    recurrence: RecurrenceOut | None


class QuickAddOut(BaseModel):
    """What was understood of the text, and where."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"draft": _DRAFT, "parts": _PARTS}]})

    draft: QuickAddDraft
    parts: Annotated[list[QuickAddPart], Field(description="in the order of the text; they do not overlap")]

    @classmethod
    def of(cls, text: str, reading: Reading) -> Self:
        """Show what was read in a text."""
        recurrence = None if reading.recurrence is None else RecurrenceOut.model_validate(reading.recurrence)
        draft = QuickAddDraft(
            title=reading.title,
            priority=reading.priority,
            due_at=reading.due_at,
            tags=list(reading.tags),
            recurrence=recurrence,
        )
        parts = [
            QuickAddPart(kind=part.kind, start=part.start, end=part.end, text=text[part.start : part.end])
            for part in reading.parts
        ]
        return cls(draft=draft, parts=parts)
