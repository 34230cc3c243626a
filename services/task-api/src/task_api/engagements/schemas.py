"""What requests about engagements may say and what is answered."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chassis.identity import MAX_SUBJECT_CHARS, is_subject
from task_api.engagements.models import Engagement, Invitation
from task_api.engagements.roles import Role
from task_api.secret_tokens import INVITATION_PREFIX
from task_api.tasks.schemas import Moment, TaskRequest, without_nul

MAX_NAME_CHARS: Final = 100
MAX_INVITATION_DAYS: Final = 30
DEFAULT_VALIDITY: Final = timedelta(days=7)
_MAX_TOKEN_CHARS: Final = 100
_HINT: Final = INVITATION_PREFIX + "c0Zq3x"
A_TOKEN: Final = _HINT + "0" * 37


def _trimmed(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value.strip()


def _nameable(value: str) -> str:
    if not is_subject(value):
        raise ValueError("must be the subject of a user's credential")
    return value


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_CHARS, examples=["Kitchen renovation"]),
    AfterValidator(without_nul),
    AfterValidator(_trimmed),
]
Subject = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SUBJECT_CHARS, description="subject of a user's credential", examples=["bob"]),
    AfterValidator(_nameable),
]
RoleIn = Annotated[Role, Field(description="what the member may do", examples=["editor"])]


class EngagementWritten(TaskRequest):
    """What a caller says about an engagement."""

    name: Name


class RoleChange(TaskRequest):
    """Another role for a member."""

    role: RoleIn


class OwnershipTransfer(TaskRequest):
    """Who is to be owner."""

    user_id: Subject


class InvitationCreate(TaskRequest):
    """A new invitation."""

    role: RoleIn
    subject: Annotated[
        Subject | None, Field(description="only this user may accept; else whoever has the token", examples=["bob"])
    ] = None
    expires_at: Annotated[
        Moment | None,
        Field(description=f"at most {MAX_INVITATION_DAYS} days ahead; without it 7 days", examples=[None]),
    ] = None


class InvitationAccept(TaskRequest):
    """The token of an invitation."""

    token: Annotated[
        str,
        Field(min_length=1, max_length=_MAX_TOKEN_CHARS, description="as it was handed over", examples=[A_TOKEN]),
        AfterValidator(without_nul),
    ]


class EngagementOut(BaseModel):
    """An engagement, as one of its members sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(description="never used again", examples=[5])]
    name: Annotated[str, Field(examples=["Kitchen renovation"])]
    role: Annotated[Role, Field(description="the caller's own", examples=["owner"])]
    version: Annotated[int, Field(description="grows by one when it is renamed", examples=[1])]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, engagement: Engagement, role: str | None) -> Self:
        """Show an engagement to somebody who has a role in it."""
        return cls.model_validate({**engagement.model_dump(), "role": role})


class MemberOut(BaseModel):
    """Somebody in an engagement."""

    model_config = ConfigDict(from_attributes=True)

    user_id: Annotated[str, Field(description="subject of the member's credential", examples=["bob"])]
    role: Annotated[Role, Field(examples=["editor"])]
    joined_at: datetime


class MembershipOut(BaseModel):
    """The caller's own place in an engagement."""

    engagement_id: Annotated[int, Field(examples=[5])]
    name: Annotated[str, Field(examples=["Kitchen renovation"])]
    role: Annotated[Role, Field(examples=["editor"])]


class InvitationOut(BaseModel):
    """An invitation that can still be accepted, without its token."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(description="never used again", examples=[3])]
    role: Annotated[Role, Field(examples=["editor"])]
    subject: Annotated[str | None, Field(description="who alone may accept; null: whoever has the token")]
    token_hint: Annotated[str, Field(description="how its token begins", examples=[_HINT])]
    created_at: datetime
    expires_at: datetime


class InvitationIssued(InvitationOut):
    """An invitation with its token: the only time that it is shown."""

    token: Annotated[str, Field(description="hand it to the invited; it is not kept", examples=[A_TOKEN])]

    @classmethod
    def of(cls, invitation: Invitation, secret: str) -> Self:
        """Show an invitation whose token was just made."""
        return cls(**InvitationOut.model_validate(invitation).model_dump(), token=secret)
