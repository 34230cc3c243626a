"""Gaps: the versions of a task that a consumer should have received and has not.

Versions of a task begin at 1 and grow by one, so an event that skips some says exactly which are missing. A gap
is stored with the event that revealed it, in one transaction, and taken back piece by piece as the late events
arrive: what arrived becomes a closed gap of its own, so the table keeps the history of what was missing when.

Whoever changes the gaps of a subject holds that subject's row of the inbox, so two deliveries never meet here.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from prometheus_client import Gauge
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database
from chassis.periodic import repeating

_OBSERVE_INTERVAL: Final = 5.0

_open_gaps = Gauge("taskwire_inbox_open_gaps", "Gaps in the versions of a task that no late event has closed")
_oldest_gap = Gauge("taskwire_inbox_oldest_gap_age_seconds", "Age of the oldest of them")


@dataclass(eq=False)
class Gap:
    """A run of versions of one subject; while it is open, none of them was received.

    Attributes:
        id: None until it is stored.
        subject: The task id in decimal digits.
        from_version: First version of the run.
        to_version: Last version of the run, included.
        detected_at: None when it was detected in this transaction.
        closed: Whether what was missing has arrived.
    """

    id: int | None
    subject: str
    from_version: int
    to_version: int
    detected_at: datetime | None = None
    closed: bool = False


class Ledger:
    """The open gaps of some subjects, and what became of them."""

    def __init__(self, stored: Iterable[Gap]) -> None:
        self._gaps = list(stored)
        self._changed: list[Gap] = []

    def open(self, subject: str, from_version: int, to_version: int) -> None:
        """Note versions that were skipped."""
        self._add(Gap(None, subject, from_version, to_version))

    def fill(self, subject: str, version: int) -> bool:
        """Take back a version that has arrived; False when it was not missing."""
        for gap in self._gaps:
            if gap.subject == subject and not gap.closed and gap.from_version <= version <= gap.to_version:
                self._take_out(gap, version)
                return True
        return False

    def _take_out(self, gap: Gap, version: int) -> None:
        before, after = version - gap.from_version, gap.to_version - version
        if gap.id is not None and gap not in self._changed:
            self._changed.append(gap)
        if before and after:
            self._add(Gap(None, gap.subject, version + 1, gap.to_version, gap.detected_at))
        if before or after:
            self._add(Gap(None, gap.subject, version, version, gap.detected_at, closed=True))
        if before:
            gap.to_version = version - 1
        elif after:
            gap.from_version = version + 1
        else:
            gap.closed = True

    def _add(self, gap: Gap) -> None:
        self._gaps.append(gap)
        self._changed.append(gap)

    @property
    def changed(self) -> list[Gap]:
        """What must be written."""
        return self._changed


_OPEN_GAPS_OF: Final = text(
    """
    SELECT id, subject, from_version, to_version, detected_at FROM inbox_gaps
    WHERE subject = ANY(CAST(:subjects AS text[])) AND closed_at IS NULL
    """
)
_SHRINK: Final = text(
    """
    UPDATE inbox_gaps SET from_version = :from_version, to_version = :to_version,
        closed_at = CASE WHEN CAST(:closed AS boolean) THEN clock_timestamp() END
    WHERE id = :id
    """
)
_ADD: Final = text(
    """
    INSERT INTO inbox_gaps (subject, from_version, to_version, detected_at, closed_at)
    VALUES (:subject, :from_version, :to_version, coalesce(CAST(:detected_at AS timestamptz), clock_timestamp()),
        CASE WHEN CAST(:closed AS boolean) THEN clock_timestamp() END)
    """
)
_OPEN_NOW: Final = text(
    """
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(detected_at)), 0)
    FROM inbox_gaps WHERE closed_at IS NULL
    """
)


async def load_ledger(connection: AsyncConnection, subjects: Sequence[str]) -> Ledger:
    """Read the open gaps of subjects, whose rows of the inbox the transaction must hold."""
    if not subjects:
        return Ledger([])
    rows = await connection.execute(_OPEN_GAPS_OF, {"subjects": subjects})
    return Ledger(Gap(*row) for row in rows)


async def store_ledger(connection: AsyncConnection, ledger: Ledger) -> None:
    """Write what changed: first what shrank, so that no two rows ever begin at the same version."""
    shrunk = [asdict(gap) for gap in ledger.changed if gap.id is not None]
    added = [asdict(gap) for gap in ledger.changed if gap.id is None]
    for statement, rows in ((_SHRINK, shrunk), (_ADD, added)):
        for row in rows:
            await connection.execute(statement, row)


async def observe_gaps(database: Database) -> None:
    """Bring the gauges up to date.

    Raises:
        DatabaseUnavailableError: They keep the values they have.
    """
    async with database.session() as session:
        count, age = (await (await session.connection()).execute(_OPEN_NOW)).one()
    _open_gaps.set(count)
    _oldest_gap.set(max(0.0, float(age)))


def observing_gaps(database: Database) -> AbstractAsyncContextManager[None]:
    """Keep the gauges up to date in the background; the table is asked because other replicas write it too."""
    return repeating("observe-gaps", _OBSERVE_INTERVAL, lambda: observe_gaps(database))


def add_gap_table(metadata: sa.MetaData) -> None:
    """Declare the table in a consumer's metadata; its second migration creates the same."""
    sa.Table(
        "inbox_gaps",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("from_version", sa.BigInteger, nullable=False),
        sa.Column("to_version", sa.BigInteger, nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        # A version is missing once at most. Serves the late event that looks for its gap, too.
        sa.UniqueConstraint("subject", "from_version", name="inbox_gaps_subject_from_version_key"),
        sa.CheckConstraint("1 <= from_version AND from_version <= to_version", name="versions"),
        # Serves the list of open gaps, the gauges, and stays small when the history does not.
        sa.Index("inbox_gaps_open_idx", "id", postgresql_where=sa.text("closed_at IS NULL")),
    )
