"""What a task event says: the full state after the change, and what the change was.

A consumer that only knows this module can rebuild any task from its newest event (`task`), show what
happened (`changes`), and tell whether it missed something (`task.version` grows by exactly one).

Models ignore fields they do not know, so a consumer built today reads what a newer publisher adds.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

CONTRACT_VERSION = "1.2"
"""`major.minor` of this contract. A new minor only adds; consumers accept any minor of their major."""

ACCOUNT_CONTRACT_VERSION = "1.1"
"""The same of the contract of `accounts`, which goes its own way."""


MAX_BIGINT = 2**63 - 1
"""The largest id or version: both are 64-bit in every store."""


class TaskEventType(StrEnum):
    """CloudEvents `type` of everything that happens to a task."""

    CREATED = "task.created"
    UPDATED = "task.updated"
    COMPLETED = "task.completed"
    REOPENED = "task.reopened"
    DELETED = "task.deleted"
    RESTORED = "task.restored"


Priority = Literal["high", "medium", "low"]


def _is_none(value: object) -> bool:
    return value is None


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Recurrence(_Contract):
    """How a task repeats: completing it makes the next one."""

    rule: Annotated[str, Field(description="RRULE of RFC 5545, without DTSTART", examples=["FREQ=WEEKLY;BYDAY=MO"])]
    anchor: Annotated[Literal["due", "completion"], Field(description="What the next due date is counted from")]
    time_zone: Annotated[str, Field(description="IANA name; the rule means local times there", examples=["Asia/Tokyo"])]


class TaskSnapshot(_Contract):
    """A task as it is after the change. Times are RFC 3339 in UTC."""

    id: Annotated[int, Field(ge=1, le=MAX_BIGINT, description="Never given to another task")]
    owner_id: Annotated[
        str, Field(description="Subject of the owner's credential; `engagement:ID` for a task in an engagement")
    ]
    title: str
    description: str | None
    priority: Priority
    due_at: AwareDatetime | None
    completed: bool
    completed_at: Annotated[AwareDatetime | None, Field(description="Null while the task is open")]
    version: Annotated[int, Field(ge=1, le=MAX_BIGINT, description="1 at creation, +1 with every change, no holes")]
    created_at: AwareDatetime
    updated_at: AwareDatetime
    deleted_at: Annotated[AwareDatetime | None, Field(description="Null unless the task is deleted")]
    tags: Annotated[tuple[str, ...], Field(description="Lower case, in the owner's order. Since 1.1")] = ()
    position: Annotated[
        str, Field(description="Place in the owner's own order; compare byte by byte, then by id. Since 1.1")
    ] = ""
    parent_id: Annotated[int | None, Field(ge=1, le=MAX_BIGINT, description="Subtask of that task. Since 1.1")] = None
    recurrence: Annotated[Recurrence | None, Field(description="Null: it does not repeat. Since 1.1")] = None
    engagement_id: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_BIGINT,
            exclude_if=_is_none,
            description="The shared space that the task is in; absent for a personal task. Since 1.2",
        ),
    ] = None


class FieldChange(_Contract):
    """One field's value before and after, as JSON; `old` is null at creation."""

    old: JsonValue
    new: JsonValue


class Actor(_Contract):
    """Who made the change: the subject of the verified credential."""

    id: str


class TaskEventData(_Contract):
    """The CloudEvents `data` of every task event."""

    contract_version: Annotated[
        str, Field(pattern=r"^[1-9]\d*\.\d+$", description="`major.minor`; a minor only adds")
    ] = CONTRACT_VERSION
    task: TaskSnapshot
    changes: Annotated[dict[str, FieldChange], Field(description="What this event changed, by field of the task")]
    actor: Actor
    occurred_at: Annotated[AwareDatetime, Field(description="When the change was made; equal to the envelope's `time`")]
    corr_id: Annotated[str, Field(description="Correlation id of the request that made the change")]
    recipients: Annotated[
        tuple[str, ...] | None,
        Field(
            exclude_if=_is_none,
            description="Subjects of the members of the engagement when the change was made, whoever made it among "
            "them; absent for a personal task. Since 1.2",
        ),
    ] = None


def utc_text(moment: datetime) -> str:
    """Give a moment as RFC 3339 text in UTC, always with microseconds.

    The width never varies, so texts sort like the moments and hash the same everywhere.
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
