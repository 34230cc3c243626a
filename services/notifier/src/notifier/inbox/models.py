"""The `notifications` table: what people find in the application."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Index, Text, UniqueConstraint, text
from sqlmodel import Field

from notifier.models import Model


class Notification(Model, table=True):
    """One thing that happened to a task, told to one person."""

    __tablename__ = "notifications"
    __table_args__ = (
        # Everybody is told once of each event.
        UniqueConstraint("event_id", "owner_id"),
        CheckConstraint("task_id >= 1", name="task_id"),
        CheckConstraint("title <> ''", name="title"),
        # Serves the list of one's own notifications, newest first, and its count.
        Index("notifications_owner_id_id_idx", "owner_id", "id"),
        # Serves the same for unread ones, which are few among many.
        Index("notifications_unread_idx", "owner_id", "id", postgresql_where=text("read_at IS NULL")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    owner_id: str = Field(sa_column=Column(Text, nullable=False))
    event_id: str = Field(sa_column=Column(Text, nullable=False))
    task_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    type: str = Field(sa_column=Column(Text, nullable=False))
    title: str = Field(sa_column=Column(Text, nullable=False))
    body: str | None = Field(default=None, sa_column=Column(Text))
    occurred_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    created_at: datetime | None = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("now()"))
    )
    read_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
