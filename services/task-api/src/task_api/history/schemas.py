"""What responses say about completions."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class CompletionOut(BaseModel):
    """One completion of one task. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(examples=[12])]
    task_id: Annotated[int, Field(examples=[7])]
    title: Annotated[str, Field(description="of the task when it was completed", examples=["Buy milk"])]
    completed_at: datetime
    reopened_at: Annotated[
        datetime | None, Field(description="when it was undone; null while it stands", examples=[None])
    ]
