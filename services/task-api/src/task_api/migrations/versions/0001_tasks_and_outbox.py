"""Tasks and the outbox.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "tasks",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("due_at", _TIMESTAMP),
        sa.Column("completed", sa.Boolean, nullable=False),
        sa.Column("completed_at", _TIMESTAMP),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("updated_at", _TIMESTAMP, nullable=False),
        sa.Column("deleted_at", _TIMESTAMP),
        sa.CheckConstraint("priority IN ('high', 'medium', 'low')", name=op.f("tasks_priority_check")),
        sa.CheckConstraint("completed = (completed_at IS NOT NULL)", name=op.f("tasks_completed_at_check")),
        sa.CheckConstraint("version >= 1", name=op.f("tasks_version_check")),
    )
    op.create_index(
        "tasks_owner_id_id_idx",
        "tasks",
        ["owner_id", sa.text("id DESC")],
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("aggregate_type", sa.Text, nullable=False),
        sa.Column("aggregate_id", sa.BigInteger, nullable=False),
        sa.Column("aggregate_version", sa.BigInteger, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload", postgresql.JSONB, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("occurred_at", _TIMESTAMP, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_at", _TIMESTAMP, nullable=False, server_default=sa.text("now()")),
        sa.Column("last_error", sa.Text),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "1000",
        },
    )
    op.create_index(
        "outbox_aggregate_id_aggregate_version_key",
        "outbox",
        ["aggregate_id", "aggregate_version"],
        unique=True,
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("outbox")
    op.drop_table("tasks")
