"""The `completions` table: each time that a task was completed, and when that was undone."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Identity, Index, Text, text
from sqlmodel import Field

from task_api.models import Model

_TIMESTAMP = DateTime(timezone=True)


class Completion(Model, table=True):
    """One completion of one task; it stands until the task is reopened."""

    __tablename__ = "completions"
    __table_args__ = (
        # What somebody completed, newest first, in a period.
        Index("completions_owner_id_completed_at_idx", "owner_id", "completed_at", "id"),
        # The completions of one task, and of the tasks that it recurred from.
        Index("completions_series_id_completed_at_idx", "series_id", "completed_at", "id"),
        # Serves the foreign key when tasks are purged.
        Index("completions_task_id_idx", "task_id"),
        # A task is completed once at a time; finds the completion that a reopening ends.
        Index("completions_standing_key", "task_id", unique=True, postgresql_where=text("reopened_at IS NULL")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    owner_id: str = Field(sa_column=Column(Text, nullable=False))
    task_id: int = Field(sa_column=Column(BigInteger, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False))
    # The first task of those that recurred from each other; the task itself when it is the first. No foreign key, as
    # it may have been purged.
    series_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    title: str = Field(sa_column=Column(Text, nullable=False))
    completed_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    reopened_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
