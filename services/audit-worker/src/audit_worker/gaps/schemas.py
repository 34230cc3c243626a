"""What responses about gaps say."""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class GapOut(BaseModel):
    """Versions of a task of which the trail has, or had, no entry although it has later ones."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(examples=[1])]
    task_id: Annotated[int, Field(examples=[7])]
    from_version: Annotated[int, Field(description="first missing version", examples=[2])]
    to_version: Annotated[int, Field(description="last missing version, included", examples=[3])]
    detected_at: Annotated[AwareDatetime, Field(description="when a later version arrived without them")]
    closed_at: Annotated[AwareDatetime | None, Field(description="when they arrived; null while they are missing")]
