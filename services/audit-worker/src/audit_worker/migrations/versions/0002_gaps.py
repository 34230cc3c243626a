"""Gaps: versions of a task that were skipped, and those that skipped ones left in what was received before.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

# What the inbox says was skipped before there was a table for it. Concurrent deliveries wait: the table they would
# need is not there yet, or they are of the release before and the lock below keeps them out until the commit.
_FIND_OLD_GAPS = """
    INSERT INTO inbox_gaps (subject, from_version, to_version, detected_at)
    SELECT subject, previous + 1, version - 1, received_at
    FROM (
        SELECT subject, version, received_at, lag(version, 1, 0::bigint) OVER (PARTITION BY subject ORDER BY version)
        FROM inbox_events
    ) AS received (subject, version, received_at, previous)
    WHERE version > previous + 1
    ORDER BY received_at
"""


def upgrade() -> None:
    """Create the table and fill it with the gaps that are open now."""
    op.create_table(
        "inbox_gaps",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("from_version", sa.BigInteger, nullable=False),
        sa.Column("to_version", sa.BigInteger, nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("subject", "from_version", name=op.f("inbox_gaps_subject_from_version_key")),
        sa.CheckConstraint("1 <= from_version AND from_version <= to_version", name=op.f("inbox_gaps_versions_check")),
    )
    op.create_index("inbox_gaps_open_idx", "inbox_gaps", ["id"], postgresql_where=sa.text("closed_at IS NULL"))
    op.execute("LOCK TABLE inbox_subjects IN EXCLUSIVE MODE")
    op.execute(_FIND_OLD_GAPS)


def downgrade() -> None:
    """Drop the table; up again finds what is missing then, without the history."""
    op.drop_table("inbox_gaps")
