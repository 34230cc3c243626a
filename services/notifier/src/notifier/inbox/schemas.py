"""What responses of the inbox say."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class NotificationOut(BaseModel):
    """One thing that happened to one of the caller's tasks. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(examples=[42])]
    event_id: Annotated[str, Field(examples=["01976f5e-7c3a-7d55-9a51-0c7f6b1f3b52"])]
    task_id: Annotated[int, Field(examples=[7])]
    type: Annotated[str, Field(description="type of the event", examples=["task.completed"])]
    title: Annotated[str, Field(description="for people", examples=["Task completed: “Buy milk”"])]
    body: Annotated[
        str | None, Field(description="what changed, a line for each field", examples=["Priority: low → high"])
    ]
    occurred_at: Annotated[datetime, Field(description="when the change was made")]
    created_at: Annotated[datetime, Field(description="when this notification was made")]
    read_at: Annotated[datetime | None, Field(description="when it was first marked as read; null: unread")]
