"""Idempotent consumption: every event takes effect once, whatever is delivered twice, late or out of order.

`receive` and the effect share one transaction: either both are there or neither. The event id makes a
duplicate a no-op; the version of the subject tells a stale event and a missing one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.gaps import add_gap_table, load_ledger, store_ledger
from chassis.logging import get_logger
from chassis.metrics import with_series
from task_events import TaskEvent

_missing = Counter("taskwire_inbox_missing_versions_total", "Versions of a task that were skipped over")
_recovered = Counter("taskwire_inbox_recovered_versions_total", "Missing versions that arrived after all")
_logger = get_logger(__name__)


class Verdict(StrEnum):
    """What a received event is to this consumer."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    STALE = "stale"


@dataclass(frozen=True)
class Receipt:
    """What `receive` found out about one event.

    Attributes:
        verdict: FRESH: apply it. DUPLICATE: it was received before, do nothing. STALE: a newer version of the
            task was received before; record it if every event counts, but do not let it overwrite anything.
        missing: How many versions lie between the last one received and this one.
        recovered: Whether it is a version that was missing.
    """

    verdict: Verdict
    missing: int = 0
    recovered: bool = False


@dataclass(frozen=True)
class ReceivedEvent:
    """An event and what it is to this consumer."""

    event: TaskEvent
    receipt: Receipt


# A subject's row is locked from here to the commit, so two deliveries for one task take turns. The rows are locked
# in the order given: sorted, so two batches that share tasks never wait for each other in a circle.
_LOCK_SUBJECTS: Final = text(
    """
    INSERT INTO inbox_subjects AS known (subject, version)
    SELECT given.subject, 0 FROM unnest(CAST(:subjects AS text[])) WITH ORDINALITY AS given (subject, place)
    ORDER BY given.place
    ON CONFLICT (subject) DO UPDATE SET version = known.version
    RETURNING subject, version
    """
)
# A statement of its own, after the locks: it must see what the transactions they waited for have committed.
_KNOWN_EVENTS: Final = text("SELECT event_id FROM inbox_events WHERE event_id = ANY(CAST(:event_ids AS text[]))")
_NOTE: Final = text(
    """
    WITH raised AS (
        UPDATE inbox_subjects AS known SET version = now_at.version
        FROM unnest(CAST(:raised AS text[]), CAST(:raised_to AS bigint[])) AS now_at (subject, version)
        WHERE known.subject = now_at.subject
    )
    INSERT INTO inbox_events (event_id, subject, version, verdict)
    SELECT * FROM unnest(CAST(:event_ids AS text[]), CAST(:subjects AS text[]),
        CAST(:versions AS bigint[]), CAST(:verdicts AS text[]))
    """
)


async def receive(session: AsyncSession, events: Sequence[TaskEvent]) -> list[ReceivedEvent]:
    """Note events in the inbox, in the transaction of their effect: a few statements, however many they are.

    Args:
        session: The effect's session; the caller commits.
        events: What was delivered, in this order.

    Returns:
        The events in the same order, each with its receipt.
    """
    connection = await session.connection()
    subjects = sorted({event.subject for event in events})
    rows = await connection.execute(_LOCK_SUBJECTS, {"subjects": subjects})
    last = {subject: int(version) for subject, version in rows}
    known = set(await connection.scalars(_KNOWN_EVENTS, {"event_ids": [event.id for event in events]}))
    received = [ReceivedEvent(event, _judge(event, last, known)) for event in events]
    await _note(connection, received)
    return await _track_gaps(connection, received)


def _judge(event: TaskEvent, last: dict[str, int], known: set[str]) -> Receipt:
    """Tell what an event is, and remember it for those behind it in the batch."""
    subject, version = event.subject, event.data.task.version
    if event.id in known:
        return Receipt(Verdict.DUPLICATE)
    known.add(event.id)
    if version <= last[subject]:
        return Receipt(Verdict.STALE)
    missing = version - last[subject] - 1
    last[subject] = version
    return Receipt(Verdict.FRESH, missing)


async def _note(connection: AsyncConnection, received: Sequence[ReceivedEvent]) -> None:
    new = [item for item in received if item.receipt.verdict is not Verdict.DUPLICATE]
    if not new:
        return
    # The last of a subject's fresh events is its newest.
    raised = {i.event.subject: i.event.data.task.version for i in new if i.receipt.verdict is Verdict.FRESH}
    columns = {
        "raised": list(raised),
        "raised_to": list(raised.values()),
        "event_ids": [item.event.id for item in new],
        "subjects": [item.event.subject for item in new],
        "versions": [item.event.data.task.version for item in new],
        "verdicts": [item.receipt.verdict.value for item in new],
    }
    await connection.execute(_NOTE, columns)


async def _track_gaps(connection: AsyncConnection, received: list[ReceivedEvent]) -> list[ReceivedEvent]:
    late = {item.event.subject for item in received if item.receipt.verdict is Verdict.STALE}
    if not late and not any(item.receipt.missing for item in received):
        return received
    ledger = await load_ledger(connection, sorted(late))
    tracked = []
    for item in received:
        event, receipt = item.event, item.receipt
        version = event.data.task.version
        if receipt.missing:
            ledger.open(event.subject, version - receipt.missing, version - 1)
        elif receipt.verdict is Verdict.STALE and ledger.fill(event.subject, version):
            receipt = replace(receipt, recovered=True)
        tracked.append(ReceivedEvent(event, receipt))
    await store_ledger(connection, ledger)
    return tracked


_received = with_series(
    Counter("taskwire_inbox_events_total", "Events received, by what became of them", ["verdict"]), *Verdict
)


def report_received(item: ReceivedEvent) -> None:
    """Count an event and say what it revealed; call after the commit, for what is rolled back never was."""
    event, receipt = item.event, item.receipt
    _received.labels(receipt.verdict.value).inc()
    version = event.data.task.version
    if receipt.missing:
        _missing.inc(receipt.missing)
        first = version - receipt.missing
        _logger.warning(
            "versions are missing", subject=event.subject, from_version=first, to_version=version - 1, received=version
        )
    if receipt.recovered:
        _recovered.inc()
        _logger.info("a missing version arrived", subject=event.subject, version=version)


def add_inbox_tables(metadata: sa.MetaData) -> None:
    """Declare the inbox in a consumer's metadata; its migrations create the same tables."""
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
    add_gap_table(metadata)
