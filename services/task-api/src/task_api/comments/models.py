"""The `comments` table."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Identity, Index, Text
from sqlmodel import Field

from task_api.models import Model

_TIMESTAMP = DateTime(timezone=True)


class Comment(Model, table=True):
    """What somebody wrote about a task. A deleted comment has no row: its text is gone."""

    __tablename__ = "comments"
    __table_args__ = (
        CheckConstraint("version >= 1", name="version"),
        # The comments of a task, oldest first, and their count; serves the foreign key when tasks are purged.
        Index("comments_task_id_id_idx", "task_id", "id"),
        # Serves the erasure of an account.
        Index("comments_author_id_idx", "author_id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    task_id: int = Field(sa_column=Column(BigInteger, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False))
    author_id: str = Field(sa_column=Column(Text, nullable=False))
    body: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(default=1, nullable=False)
    created_at: datetime = Field(sa_column=Column(_TIMESTAMP, nullable=False))
    edited_at: datetime | None = Field(default=None, sa_column=Column(_TIMESTAMP))
