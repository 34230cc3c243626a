"""The inbox, the audit trail and the head of its chain.

Going down drops the trail itself: take a backup first, nothing else can bring it back.

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
_REFUSE_CHANGES = """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% refused: % is append-only', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END
    $$
"""


def upgrade() -> None:
    """Create the tables, the guards, and a chain without entries."""
    _create_inbox()
    _create_trail()
    op.execute(_REFUSE_CHANGES)
    # For each statement, because TRUNCATE has no rows.
    op.execute(
        "CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER chain_head_stays BEFORE DELETE OR TRUNCATE ON chain_head "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute("INSERT INTO chain_head (id, sequence, hash) VALUES (1, 0, repeat('0', 64))")


def _create_inbox() -> None:
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


def _create_trail() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sa.Column("task_version", sa.BigInteger, nullable=False),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("changes", postgresql.JSONB, nullable=False),
        sa.Column("task", postgresql.JSONB, nullable=False),
        sa.Column("occurred_at", _TIMESTAMP, nullable=False),
        sa.Column("corr_id", sa.Text, nullable=False),
        sa.Column("recorded_at", _TIMESTAMP, nullable=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.UniqueConstraint("event_id", name="audit_entries_event_id_key"),
        sa.UniqueConstraint("prev_hash", name="audit_entries_prev_hash_key"),
        sa.CheckConstraint("sequence >= 1", name=op.f("audit_entries_sequence_check")),
        sa.CheckConstraint("task_id >= 1", name=op.f("audit_entries_task_id_check")),
        sa.CheckConstraint("task_version >= 1", name=op.f("audit_entries_task_version_check")),
        sa.CheckConstraint("content_hash ~ '^[0-9a-f]{64}$'", name=op.f("audit_entries_content_hash_check")),
        sa.CheckConstraint("prev_hash ~ '^[0-9a-f]{64}$'", name=op.f("audit_entries_prev_hash_check")),
        sa.CheckConstraint("hash ~ '^[0-9a-f]{64}$'", name=op.f("audit_entries_hash_check")),
    )
    op.create_index("audit_entries_owner_id_sequence_idx", "audit_entries", ["owner_id", "sequence"])
    op.create_index("audit_entries_task_id_sequence_idx", "audit_entries", ["task_id", "sequence"])
    op.create_table(
        "chain_head",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("chain_head_single_row_check")),
        sa.CheckConstraint("sequence >= 0", name=op.f("chain_head_sequence_check")),
        sa.CheckConstraint("hash ~ '^[0-9a-f]{64}$'", name=op.f("chain_head_hash_check")),
        postgresql_with={"fillfactor": "10"},
    )


def downgrade() -> None:
    """Drop everything."""
    for table in ("chain_head", "audit_entries", "inbox_subjects", "inbox_events"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
