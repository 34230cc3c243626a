"""The inbox and the in-app notifications.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "inbox_events",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("received_at", _TIMESTAMP, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "inbox_subjects",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("occurred_at", _TIMESTAMP, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("read_at", _TIMESTAMP),
        sa.UniqueConstraint("event_id", name=op.f("notifications_event_id_key")),
        sa.CheckConstraint("task_id >= 1", name=op.f("notifications_task_id_check")),
        sa.CheckConstraint("title <> ''", name=op.f("notifications_title_check")),
    )
    op.create_index("notifications_owner_id_id_idx", "notifications", ["owner_id", "id"])
    op.create_index(
        "notifications_unread_idx",
        "notifications",
        ["owner_id", "id"],
        postgresql_where=sa.text("read_at IS NULL"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("notifications", "inbox_subjects", "inbox_events"):
        op.drop_table(table)
