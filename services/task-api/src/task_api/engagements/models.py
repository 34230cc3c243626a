"""The tables of engagements. Of an invitation's token only the hash is kept, and how it begins."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from task_api.models import Model

_TIMESTAMP = DateTime(timezone=True)
_ROLES = "role IN ('owner', 'editor', 'viewer')"


def _engagement_id(*, primary_key: bool = False) -> Column[int]:
    return Column(BigInteger, ForeignKey("engagements.id"), primary_key=primary_key, nullable=False)


class Engagement(Model, table=True):
    """A shared space. Its tasks are owned by `engagement:ID`; deleted, it has neither members nor invitations."""

    __tablename__ = "engagements"
    __table_args__ = (
        CheckConstraint("version >= 1", name="version"),
        # Those whose tasks are still to be deleted: hardly ever any.
        Index("engagements_ending_idx", "id", postgresql_where=text("deleted_at IS NOT NULL AND ended_at IS NULL")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(default=1, nullable=False)
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    updated_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    deleted_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    # What the events of its tasks must say, which are deleted after it: who did it, in which request, and who was a
    # member then. Nothing of it, nor the name, is kept when the last task is deleted.
    deleted_by: str | None = Field(default=None, sa_column=Column(Text))
    deleted_corr_id: str | None = Field(default=None, sa_column=Column(Text))
    last_members: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    ended_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))


class Member(Model, table=True):
    """Somebody's role in an engagement."""

    __tablename__ = "engagement_members"
    __table_args__ = (
        CheckConstraint(_ROLES, name="role"),
        # In which engagements somebody is: for their list, and for every task that is reached by its id.
        Index("engagement_members_user_id_engagement_id_idx", "user_id", "engagement_id", postgresql_include=["role"]),
    )

    engagement_id: int = Field(sa_column=_engagement_id(primary_key=True))
    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    role: str = Field(sa_column=Column(Text, nullable=False))
    joined_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))


class Invitation(Model, table=True):
    """An invitation, good for one person and once. Revoked, it is gone."""

    __tablename__ = "engagement_invitations"
    __table_args__ = (
        CheckConstraint(_ROLES, name="role"),
        CheckConstraint("octet_length(token_digest) = 32", name="token_digest"),
        # Serves every acceptance.
        Index("engagement_invitations_token_digest_key", "token_digest", unique=True),
        Index("engagement_invitations_engagement_id_id_idx", "engagement_id", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    engagement_id: int = Field(sa_column=_engagement_id())
    role: str = Field(sa_column=Column(Text, nullable=False))
    subject: str | None = Field(default=None, sa_column=Column(Text))
    token_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    token_hint: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    expires_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    accepted_by: str | None = Field(default=None, sa_column=Column(Text))
