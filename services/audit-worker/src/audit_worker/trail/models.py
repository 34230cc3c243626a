"""The tables of the trail: its entries, and the one row that says where it ends."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Index, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from audit_worker.models import Model

_SHA256 = "'^[0-9a-f]{64}$'"


class AuditEntry(Model, table=True):
    """One committed change of one task.

    Rows are only ever added, and the content of one whose owner is erased goes: triggers refuse everything else.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        CheckConstraint("sequence >= 1", name="sequence"),
        CheckConstraint("task_id >= 1", name="task_id"),
        CheckConstraint("task_version >= 1", name="task_version"),
        CheckConstraint(f"content_hash ~ {_SHA256}", name="content_hash"),
        CheckConstraint(f"actor_hash ~ {_SHA256}", name="actor_hash"),
        CheckConstraint("(actor_salt IS NULL) = (actor_hash IS NULL)", name="actor_salt"),
        CheckConstraint(f"prev_hash ~ {_SHA256}", name="prev_hash"),
        CheckConstraint(f"hash ~ {_SHA256}", name="hash"),
        # Serves the list of one's own entries, oldest first, and its count.
        Index("audit_entries_owner_id_sequence_idx", "owner_id", "sequence"),
        # Serves the history of one task. Not unique with task_version: if a publisher ever numbered two
        # changes alike, both are evidence; the service reports it.
        Index("audit_entries_task_id_sequence_idx", "task_id", "sequence"),
        # Serves the erasure of somebody who changed tasks of others.
        Index("audit_entries_foreign_actor_idx", "actor", "sequence", postgresql_where=text("actor <> owner_id")),
    )

    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    event_id: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    type: str = Field(sa_column=Column(Text, nullable=False))
    task_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    task_version: int = Field(sa_column=Column(BigInteger, nullable=False))
    owner_id: str = Field(sa_column=Column(Text, nullable=False))
    actor: str = Field(sa_column=Column(Text, nullable=False))
    changes: dict[str, JsonValue] = Field(sa_column=Column(JSONB, nullable=False))
    task: dict[str, JsonValue] = Field(sa_column=Column(JSONB, nullable=False))
    occurred_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    corr_id: str = Field(sa_column=Column(Text, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    salt: str = Field(sa_column=Column(Text, nullable=False))
    content_hash: str = Field(sa_column=Column(Text, nullable=False))
    # Unique: a chain that forked cannot be stored.
    prev_hash: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    hash: str = Field(sa_column=Column(Text, nullable=False))
    erased_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    # Of somebody else than the owner, so that they can be erased and the rest stays proven.
    actor_salt: str | None = Field(default=None, sa_column=Column(Text))
    actor_hash: str | None = Field(default=None, sa_column=Column(Text))


@dataclass
class NewEntry:
    """An entry that is about to be added: a row of `AuditEntry`, without what the ORM takes to make one."""

    sequence: int
    event_id: str
    type: str
    task_id: int
    task_version: int
    owner_id: str
    actor: str
    changes: dict[str, JsonValue]
    task: dict[str, JsonValue]
    occurred_at: datetime
    corr_id: str
    recorded_at: datetime
    salt: str
    content_hash: str
    prev_hash: str
    hash: str
    erased_at: datetime | None = None
    actor_salt: str | None = None
    actor_hash: str | None = None


class ChainHead(Model, table=True):
    """Where the chain ends: one row, which every append locks until it has committed."""

    __tablename__ = "chain_head"
    __table_args__ = (
        CheckConstraint("id = 1", name="single_row"),
        CheckConstraint("sequence >= 0", name="sequence"),
        CheckConstraint(f"hash ~ {_SHA256}", name="hash"),
        # Every append updates this row: room on its page keeps the updates off the index.
        {"postgresql_with": {"fillfactor": "10"}},
    )

    id: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    hash: str = Field(sa_column=Column(Text, nullable=False))
