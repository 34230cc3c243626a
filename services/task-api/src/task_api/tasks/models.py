"""The `tasks` table."""

from datetime import datetime
from typing import Literal

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Index, Text, text
from sqlmodel import Field

from task_api.models import Model
from task_events import TaskSnapshot

Priority = Literal["high", "medium", "low"]
_TIMESTAMP = DateTime(timezone=True)


class Task(Model, table=True):
    """One task. `version` grows by one with every change and is the version its event carries."""

    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint("priority IN ('high', 'medium', 'low')", name="priority"),
        CheckConstraint("completed = (completed_at IS NOT NULL)", name="completed_at"),
        CheckConstraint("version >= 1", name="version"),
        # Serves the list of one's own tasks, newest first, and its count.
        Index("tasks_owner_id_id_idx", "owner_id", text("id DESC"), postgresql_where=text("deleted_at IS NULL")),
        # Serves the feed of changes, deleted tasks included.
        Index("tasks_owner_id_changed_xid_id_idx", "owner_id", "changed_xid", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    owner_id: str = Field(sa_column=Column(Text, nullable=False))
    title: str = Field(sa_column=Column(Text, nullable=False))
    description: str | None = Field(default=None, sa_column=Column(Text))
    priority: str = Field(sa_column=Column(Text, nullable=False))
    due_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    completed: bool = Field(default=False, nullable=False)
    completed_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    version: int = Field(default=1, nullable=False)
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    updated_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    deleted_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
    # The transaction of the last change. A trigger sets it, so no statement can forget to; nobody else writes it.
    changed_xid: int | None = Field(
        default=None, sa_column=Column(BigInteger, nullable=False, server_default=text("0"))
    )

    def snapshot(self) -> TaskSnapshot:
        """Give the task as events show it; only once it has an id."""
        return TaskSnapshot.model_validate(self.model_dump())
