"""The tables of erasures. When one is done, what is left of the user in them is a keyed digest of their id."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from task_api.models import Model

_TIMESTAMP = DateTime(timezone=True)


class AccountErasure(Model, table=True):
    """One user who asked to be erased. A user is erased once and for ever."""

    __tablename__ = "account_erasures"
    __table_args__ = (
        CheckConstraint("octet_length(subject_digest) = 32", name="subject_digest"),
        CheckConstraint("(erased_at IS NULL) = (subject IS NOT NULL)", name="erased"),
        # Serves the triggers that refuse to add anything for such a user: as good as empty, always.
        Index("account_erasures_subject_key", "subject", unique=True, postgresql_where=text("subject IS NOT NULL")),
        # Serves the saga and its gauges, and the gates of other replicas.
        Index("account_erasures_open_idx", "requested_at", postgresql_where=text("erased_at IS NULL")),
        Index("account_erasures_requested_at_idx", "requested_at"),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    # What its events are numbered under in the outbox.
    number: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), nullable=False, unique=True))
    subject: str | None = Field(default=None, sa_column=Column(Text))
    subject_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    corr_id: str = Field(sa_column=Column(Text, nullable=False))
    requested_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    attempt: int = Field(default=1, sa_column=Column(Integer, nullable=False, server_default=text("1")))
    asked_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    # Transactions from this one on cannot have overlooked the request.
    fence_xid: int | None = Field(default=None, sa_column=Column(BigInteger))
    # Those that ended with the user, who was the last one in them; what is in them goes, too.
    engagements: list[int] = Field(
        default_factory=list, sa_column=Column(ARRAY(BigInteger), nullable=False, server_default=text("'{}'"))
    )
    erased_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))


class ErasureConfirmation(Model, table=True):
    """A service's word that it holds nothing of the user any more."""

    __tablename__ = "account_erasure_confirmations"

    erasure_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("account_erasures.id"), primary_key=True))
    service: str = Field(sa_column=Column(Text, primary_key=True))
    confirmed_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
