"""The `calendar_feeds` table. It holds no secret: of each token only the hash and how it begins."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Index, LargeBinary, Text
from sqlmodel import Field

from task_api.models import Model


class CalendarFeed(Model, table=True):
    """One feed of one owner. Revoked, it is gone."""

    __tablename__ = "calendar_feeds"
    __table_args__ = (
        CheckConstraint("octet_length(token_digest) = 32", name="token_digest"),
        # Serves every reading of a feed.
        Index("calendar_feeds_token_digest_key", "token_digest", unique=True),
        Index("calendar_feeds_owner_id_id_idx", "owner_id", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    owner_id: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    token_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    token_hint: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    token_created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
