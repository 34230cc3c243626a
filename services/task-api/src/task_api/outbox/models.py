"""The `outbox` table: events that were committed and are not known to be in Kafka yet."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from task_api.models import Model
from task_events.topics import TASKS_TOPIC

_NOW = text("now()")


class OutboxEvent(Model, table=True):
    """One event on its way, with the column names of the outbox pattern (aggregate, type, payload)."""

    __tablename__ = "outbox"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        # Serves "is there an older unsent event of this aggregate", and forbids two events for one version. By the id
        # first: nearly all are tasks. Ids of another type may be the same numbers.
        Index("outbox_aggregate_key", "aggregate_id", "aggregate_type", "aggregate_version", unique=True),
        # Rows live for milliseconds: vacuum early and often, so the table stays a few pages.
        {
            "postgresql_with": {
                "fillfactor": "70",
                "autovacuum_vacuum_scale_factor": "0",
                "autovacuum_vacuum_threshold": "1000",
            }
        },
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    aggregate_type: str = Field(sa_column=Column(Text, nullable=False))
    aggregate_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    aggregate_version: int = Field(sa_column=Column(BigInteger, nullable=False))
    topic: str = Field(
        default=TASKS_TOPIC, sa_column=Column(Text, nullable=False, server_default=text(f"'{TASKS_TOPIC}'"))
    )
    # Key of the record and subject of the event; null: the aggregate's id.
    key: str | None = Field(default=None, sa_column=Column(Text))
    type: str = Field(sa_column=Column(Text, nullable=False))
    payload: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    traceparent: str | None = Field(default=None, sa_column=Column(Text))
    occurred_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default=text("0")))
    next_attempt_at: datetime | None = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=_NOW)
    )
    last_error: str | None = Field(default=None, sa_column=Column(Text))
