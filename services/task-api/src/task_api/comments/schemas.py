"""What requests may say about comments and what responses say."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from task_api.tasks.schemas import TaskRequest, without_nul

MAX_BODY_CHARS: Final = 10_000


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


# Not trimmed: spaces at the beginning of a line mean something in Markdown.
Body = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_BODY_CHARS,
        description="kept as it is; Markdown is for the reader to show",
        examples=["The landlord has a **new account**"],
    ),
    AfterValidator(without_nul),
    AfterValidator(_not_blank),
]


class CommentCreate(TaskRequest):
    """A new comment."""

    body: Body


def _as_a_patch(schema: JsonDict) -> None:
    body = schema["properties"]
    if isinstance(body, dict) and isinstance(body["body"], dict):
        body["body"].pop("default", None)


class CommentPatch(TaskRequest):
    """What to change; a body that is not named stays as it is."""

    model_config = ConfigDict(json_schema_extra=_as_a_patch)

    body: Body = ""

    def changes(self) -> dict[str, Any]:
        """Give only the fields the caller named."""
        return self.model_dump(exclude_unset=True)


class CommentOut(BaseModel):
    """A comment. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(description="never used again, not even after deletion", examples=[3])]
    task_id: Annotated[int, Field(examples=[7])]
    author_id: Annotated[str, Field(description="who wrote it", examples=["alice"])]
    body: Annotated[str, Field(examples=["The landlord has a **new account**"])]
    version: Annotated[int, Field(description="grows by one with every edit", examples=[1])]
    created_at: datetime
    edited_at: Annotated[datetime | None, Field(description="null until it is edited", examples=[None])]
