"""Idempotent consumption: every event takes effect once, whatever is delivered twice, late or out of order.

`receive` and the effect share one transaction: either both are there or neither. The event id makes a
duplicate a no-op; the version of the subject tells a stale event and a missing one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.logging import get_logger
from task_events import TaskEvent

_received = Counter("taskwire_inbox_events_total", "Events received, by what became of them", ["verdict"])
_missing = Counter("taskwire_inbox_missing_versions_total", "Versions of a task that were skipped over")
_logger = get_logger(__name__)


class Verdict(StrEnum):
    """What a received event is to this consumer."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    STALE = "stale"


@dataclass(frozen=True)
class Receipt:
    """What `receive` found out.

    Attributes:
        verdict: Whether the event is new, known, or older than what was already received.
        missing: How many versions lie between the last one received and this one.
    """

    verdict: Verdict
    missing: int = 0


# A subject's row is locked from here to the commit, so two deliveries for one task take turns.
_LOCK_SUBJECT: Final = text(
    """
    INSERT INTO inbox_subjects AS known (subject, version) VALUES (:subject, 0)
    ON CONFLICT (subject) DO UPDATE SET version = known.version
    RETURNING version
    """
)
_ADD_EVENT: Final = text(
    """
    INSERT INTO inbox_events (event_id, subject, version, verdict)
    VALUES (:event_id, :subject, :version, :verdict)
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_id
    """
)
_RAISE_VERSION: Final = text("UPDATE inbox_subjects SET version = :version WHERE subject = :subject")


async def receive(session: AsyncSession, event: TaskEvent) -> Receipt:
    """Note an event in the inbox, in the transaction of its effect.

    Args:
        session: The effect's session; the caller commits.
        event: What was delivered.

    Returns:
        FRESH: apply it. DUPLICATE: it was received before, do nothing. STALE: a newer version of the task was
        received before; record it if every event counts, but do not let it overwrite anything.
    """
    connection = await session.connection()
    subject, version = event.subject, event.data.task.version
    last = int((await connection.execute(_LOCK_SUBJECT, {"subject": subject})).scalar_one())
    verdict = Verdict.FRESH if version > last else Verdict.STALE
    row = {"event_id": event.id, "subject": subject, "version": version, "verdict": verdict.value}
    if (await connection.execute(_ADD_EVENT, row)).first() is None:
        _received.labels(Verdict.DUPLICATE.value).inc()
        return Receipt(Verdict.DUPLICATE)
    missing = max(0, version - last - 1)
    if verdict is Verdict.FRESH:
        await connection.execute(_RAISE_VERSION, {"subject": subject, "version": version})
    if missing:
        _missing.inc(missing)
        _logger.warning("versions are missing", subject=subject, last=last, received=version, missing=missing)
    _received.labels(verdict.value).inc()
    return Receipt(verdict, missing)


def add_inbox_tables(metadata: sa.MetaData) -> None:
    """Declare the inbox in a consumer's metadata; its first migration creates the same tables."""
    sa.Table(
        "inbox_events",
        metadata,
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    sa.Table(
        "inbox_subjects",
        metadata,
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        # Every event updates its subject's row: room on the page keeps those updates off the index.
        postgresql_with={"fillfactor": "70"},
    )
