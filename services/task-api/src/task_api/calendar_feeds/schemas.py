"""What requests about feeds may say and what is answered."""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from task_api.calendar_feeds.models import CalendarFeed
from task_api.secret_tokens import FEED_PREFIX
from task_api.tasks.schemas import TaskRequest, without_nul

MAX_NAME_CHARS: Final = 100
Form = Literal["todos", "events"]
"""As what tasks are shown: VTODO, or VEVENT for applications that subscribe to nothing else."""
_HINT: Final = FEED_PREFIX + "c0Zq3x"
A_TOKEN: Final = _HINT + "0" * 37


def _trimmed(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value.strip()


class CalendarFeedCreate(TaskRequest):
    """A new feed."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_NAME_CHARS,
            description="of the calendar, as applications show it",
            examples=["Phone"],
        ),
        AfterValidator(without_nul),
        AfterValidator(_trimmed),
    ] = "Tasks"


class CalendarFeedOut(BaseModel):
    """A feed, without its token."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(description="never used again", examples=[3])]
    name: Annotated[str, Field(examples=["Phone"])]
    token_hint: Annotated[str, Field(description="how its token begins", examples=[_HINT])]
    token_created_at: Annotated[datetime, Field(description="when the token was made, or last rotated")]
    created_at: datetime


class CalendarFeedIssued(CalendarFeedOut):
    """A feed with its token: the only time that it is shown."""

    token: Annotated[str, Field(description="read the feed with it; it is not kept", examples=[A_TOKEN])]
    path: Annotated[
        str,
        Field(
            description="of the feed, with the token; put this service's address before it",
            examples=[f"/api/v1/calendars/{A_TOKEN}.ics"],
        ),
    ]

    @classmethod
    def of(cls, feed: CalendarFeed, secret: str, path: str) -> Self:
        """Show a feed whose token was just made."""
        return cls(**CalendarFeedOut.model_validate(feed).model_dump(), token=secret, path=path)
