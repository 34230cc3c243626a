"""The tables of dead letters, in each consumer's own database, and their rows as objects."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import sqlalchemy as sa
from sqlalchemy.sql.naming import conv

_TIMESTAMP: Final = sa.DateTime(timezone=True)
_metadata: Final = sa.MetaData()


class Status(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


@dataclass(frozen=True)
class DeadLetter:
    """One message that could not be processed; its bytes are fetched only where they are needed.

    Attributes:
        topic: Where it was first published, like `partition` and `offset`; -1 when the sidecar did not say.
        reason: Of the last failure.
        attempts: How often processing it was tried, redrives included.
        verdict: What the inbox said when a redrive succeeded.
        closed_by: Who redrove or discarded it.
    """

    id: int
    topic: str
    partition: int
    offset: int
    event_id: str | None
    event_type: str | None
    subject: str | None
    reason: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    stored_at: datetime
    status: str
    verdict: str | None
    closed_at: datetime | None
    closed_by: str | None
    note: str | None
    size_bytes: int


@dataclass(frozen=True)
class Failures:
    """What was noted about an event each time its handler failed."""

    reason: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime


dead_letters: Final = sa.Table(
    "dead_letters",
    _metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("body_sha256", sa.LargeBinary, nullable=False),
    sa.Column("event_id", sa.Text),
    sa.Column("event_type", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("first_failed_at", _TIMESTAMP, nullable=False),
    sa.Column("last_failed_at", _TIMESTAMP, nullable=False),
    sa.Column("stored_at", _TIMESTAMP, nullable=False, server_default=sa.func.now()),
    sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'open'")),
    sa.Column("verdict", sa.Text),
    sa.Column("closed_at", _TIMESTAMP),
    sa.Column("closed_by", sa.Text),
    sa.Column("note", sa.Text),
    # The record it was, so that at-least-once delivery stores it once. With a digest of the bytes, because
    # offsets begin anew in a topic that was made anew, and nothing may be mistaken for an older letter.
    sa.UniqueConstraint("topic", "partition", "offset", "body_sha256", name=conv("dead_letters_origin_key")),
    sa.CheckConstraint("status IN ('open', 'redriven', 'discarded')", name=conv("dead_letters_status_check")),
    sa.CheckConstraint("attempts >= 1", name=conv("dead_letters_attempts_check")),
    sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name=conv("dead_letters_closed_check")),
    # Serves the list of open ones and their count: few among many.
    sa.Index("dead_letters_open_idx", "id", postgresql_where=sa.text("status = 'open'")),
)

event_failures: Final = sa.Table(
    "event_failures",
    _metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("first_failed_at", _TIMESTAMP, nullable=False, server_default=sa.func.now()),
    sa.Column("last_failed_at", _TIMESTAMP, nullable=False, server_default=sa.func.now()),
    # Each attempt updates its row: room on the page keeps that off the index.
    postgresql_with={"fillfactor": "70"},
)


def add_dead_letter_tables(metadata: sa.MetaData) -> None:
    """Declare the tables in a consumer's metadata; a migration of the consumer creates the same."""
    for table in (dead_letters, event_failures):
        table.to_metadata(metadata)
