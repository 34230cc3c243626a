"""What requests and responses about dead letters say."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from chassis.dead_letters.models import Status
from chassis.pagination import MAX_BIGINT, MAX_CURSOR_CHARS

LetterNumber = Annotated[int, Field(ge=1, le=MAX_BIGINT, examples=[7])]


class DeadLetterOut(BaseModel):
    """One message this service could not process. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(examples=[7])]
    status: Annotated[Status, Field(description="`open` until somebody redrives or discards it")]
    topic: Annotated[str, Field(description="where it was published", examples=["tasks"])]
    partition: Annotated[int, Field(description="-1: unknown", examples=[3])]
    offset: Annotated[int, Field(description="-1: unknown", examples=[1207])]
    event_id: Annotated[str | None, Field(examples=["01976f5e-7c3a-7d55-9a51-0c7f6b1f3b52"])]
    event_type: Annotated[str | None, Field(examples=["task.completed"])]
    subject: Annotated[str | None, Field(description="the task's id", examples=["7"])]
    reason: Annotated[
        str, Field(description="of the last failure", examples=["not a task event: data: Field required"])
    ]
    attempts: Annotated[int, Field(description="how often processing was tried, redrives included", examples=[3])]
    first_failed_at: datetime
    last_failed_at: datetime
    stored_at: Annotated[datetime, Field(description="when it became a dead letter")]
    size_bytes: Annotated[int, Field(description="of the original message", examples=[812])]
    verdict: Annotated[
        Literal["fresh", "duplicate", "stale"] | None,
        Field(description="when redriven: whether the event was new, processed before, or older than what was known"),
    ]
    closed_at: datetime | None
    closed_by: str | None
    note: Annotated[str | None, Field(description="why it was discarded")]


class DeadLetterDetail(DeadLetterOut):
    """A dead letter with the original message, in one of two forms."""

    event: Annotated[
        JsonValue,
        Field(
            description="the original message; null when it is not JSON",
            examples=[{"specversion": "1.0", "type": "task.completed", "subject": "7"}],
        ),
    ]
    body_base64: Annotated[str | None, Field(description="the original bytes, when they are not JSON")]


class DiscardIn(BaseModel):
    """Why a dead letter is given up."""

    model_config = ConfigDict(extra="forbid")

    note: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=r"^[^\x00]*$"),
        Field(examples=["sent by the load test of 12 March"]),
    ]


class RedriveIn(BaseModel):
    """Which dead letters to redrive: the named ones, or page by page all that are open."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ids": [7, 8]}, {"limit": 50}]})

    ids: Annotated[list[LetterNumber] | None, Field(min_length=1, max_length=100)] = None
    limit: Annotated[int, Field(ge=1, le=100, description="open ones in one request")] = 50
    cursor: Annotated[
        str | None, Field(max_length=MAX_CURSOR_CHARS, description="`next_cursor` of the request before")
    ] = None


class RedriveOut(BaseModel):
    """What became of one letter."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(examples=[7])]
    outcome: Literal["redriven", "failed", "closed", "not_found"]
    reason: Annotated[str | None, Field(description="why it failed")]
    verdict: Annotated[Literal["fresh", "duplicate", "stale"] | None, Field(examples=["fresh"])]
