"""Dead letters, and the failures that may lead to them.

Going down drops the letters, open ones too: list them first.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "dead_letters",
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
        sa.UniqueConstraint("topic", "partition", "offset", "body_sha256", name=op.f("dead_letters_origin_key")),
        sa.CheckConstraint("status IN ('open', 'redriven', 'discarded')", name=op.f("dead_letters_status_check")),
        sa.CheckConstraint("attempts >= 1", name=op.f("dead_letters_attempts_check")),
        sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name=op.f("dead_letters_closed_check")),
    )
    op.create_index("dead_letters_open_idx", "dead_letters", ["id"], postgresql_where=sa.text("status = 'open'"))
    op.create_table(
        "event_failures",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_failed_at", _TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("last_failed_at", _TIMESTAMP, nullable=False, server_default=sa.func.now()),
        postgresql_with={"fillfactor": "70"},
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("event_failures")
    op.drop_table("dead_letters")
