"""Profiles, the erasure of accounts, and an outbox for more than one topic.

Replicas of the release before go on writing the outbox while this one is rolled out: what they do not name has a
default. They would send events of `accounts` to `tasks`, though, so nobody should ask to be erased before the last of
them is gone.

Going down forgets profiles and who was erased; erasures that go on are given up.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)
# AFTER the row is there: then the transaction has its id, by which the erasure waits for it (erasure/repository.py).
_REFUSE = """
    CREATE FUNCTION refuse_erased_{column}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM account_erasures WHERE subject = NEW.{column}) THEN
            RAISE EXCEPTION 'the account is being erased' USING ERRCODE = 'TWERA';
        END IF;
        RETURN NULL;
    END
    $$
"""
_REFUSED = (
    ("tasks", "owner_id"),
    ("calendar_feeds", "owner_id"),
    ("idempotency_keys", "owner_id"),
    ("completions", "owner_id"),
    ("comments", "author_id"),
    ("profiles", "user_id"),
)


def upgrade() -> None:
    """Add the columns, the tables and the triggers."""
    op.add_column("outbox", sa.Column("topic", sa.Text, nullable=False, server_default=sa.text("'tasks'")))
    op.add_column("outbox", sa.Column("key", sa.Text))
    op.create_index(
        "outbox_aggregate_key", "outbox", ["aggregate_id", "aggregate_type", "aggregate_version"], unique=True
    )
    op.drop_index("outbox_aggregate_id_aggregate_version_key", "outbox")
    op.create_index("comments_author_id_idx", "comments", ["author_id"])
    op.create_table(
        "profiles",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("name", sa.LargeBinary),
        sa.Column("email", sa.LargeBinary),
        sa.Column("time_zone", sa.Text, nullable=False),
        sa.Column("locale", sa.Text, nullable=False),
        sa.Column("preferences", postgresql.JSONB, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("updated_at", _TIMESTAMP, nullable=False),
        sa.CheckConstraint("version >= 1", name=op.f("profiles_version_check")),
    )
    op.create_index("profiles_key_id_idx", "profiles", ["key_id"])
    _create_erasures()
    for column in sorted({column for _, column in _REFUSED}):
        op.execute(_REFUSE.format(column=column))
    for table, column in _REFUSED:
        op.execute(
            f"CREATE TRIGGER refuse_erased AFTER INSERT OR UPDATE OF {column} ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION refuse_erased_{column}()"
        )


def _create_erasures() -> None:
    op.create_table(
        "account_erasures",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("number", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("subject_digest", sa.LargeBinary, nullable=False),
        sa.Column("corr_id", sa.Text, nullable=False),
        sa.Column("requested_at", _TIMESTAMP, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("asked_at", _TIMESTAMP, nullable=False),
        sa.Column("fence_xid", sa.BigInteger),
        sa.Column("erased_at", _TIMESTAMP),
        sa.UniqueConstraint("number", name=op.f("account_erasures_number_key")),
        sa.UniqueConstraint("subject_digest", name=op.f("account_erasures_subject_digest_key")),
        sa.CheckConstraint("octet_length(subject_digest) = 32", name=op.f("account_erasures_subject_digest_check")),
        sa.CheckConstraint("(erased_at IS NULL) = (subject IS NOT NULL)", name=op.f("account_erasures_erased_check")),
    )
    op.create_index(
        "account_erasures_subject_key",
        "account_erasures",
        ["subject"],
        unique=True,
        postgresql_where=sa.text("subject IS NOT NULL"),
    )
    op.create_index(
        "account_erasures_open_idx",
        "account_erasures",
        ["requested_at"],
        postgresql_where=sa.text("erased_at IS NULL"),
    )
    op.create_index("account_erasures_requested_at_idx", "account_erasures", ["requested_at"])
    op.create_table(
        "account_erasure_confirmations",
        sa.Column("erasure_id", sa.Uuid, sa.ForeignKey("account_erasures.id"), primary_key=True),
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("confirmed_at", _TIMESTAMP, nullable=False),
    )


def downgrade() -> None:
    """Take them away. Events of other topics cannot stay in an outbox that knows one."""
    for table, _ in _REFUSED:
        op.execute(f"DROP TRIGGER refuse_erased ON {table}")
    for column in sorted({column for _, column in _REFUSED}):
        op.execute(f"DROP FUNCTION refuse_erased_{column}()")
    op.drop_table("account_erasure_confirmations")
    op.drop_table("account_erasures")
    op.drop_table("profiles")
    op.drop_index("comments_author_id_idx", "comments")
    op.execute("DELETE FROM outbox WHERE topic <> 'tasks'")
    op.create_index(
        "outbox_aggregate_id_aggregate_version_key", "outbox", ["aggregate_id", "aggregate_version"], unique=True
    )
    op.drop_index("outbox_aggregate_key", "outbox")
    op.drop_column("outbox", "key")
    op.drop_column("outbox", "topic")
