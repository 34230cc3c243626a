"""API keys. Only adds.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("last_characters", sa.Text, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("expires_at", _TIMESTAMP),
        sa.Column("rotated_at", _TIMESTAMP),
        sa.Column("overlap_ends_at", _TIMESTAMP),
        sa.Column("last_used_at", _TIMESTAMP),
        sa.Column("revoked_at", _TIMESTAMP),
        sa.CheckConstraint("cardinality(scopes) >= 1", name=op.f("api_keys_scopes_check")),
    )
    op.create_index("api_keys_owner_id_id_idx", "api_keys", ["owner_id", "id"])
    op.create_index(
        "api_keys_revoked_at_idx", "api_keys", ["revoked_at"], postgresql_where=sa.text("revoked_at IS NOT NULL")
    )
    op.create_table(
        "api_key_secrets",
        sa.Column("public_id", sa.Text, primary_key=True),
        sa.Column("key_id", sa.BigInteger, sa.ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("pepper_id", sa.Text, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("valid_until", _TIMESTAMP),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("api_key_secrets_digest_check")),
    )
    op.create_index("api_key_secrets_key_id_idx", "api_key_secrets", ["key_id"])
    op.create_index(
        "api_key_secrets_valid_until_idx",
        "api_key_secrets",
        ["valid_until"],
        postgresql_where=sa.text("valid_until IS NOT NULL"),
    )


def downgrade() -> None:
    """Drop them; every key is void after that."""
    op.drop_table("api_key_secrets")
    op.drop_table("api_keys")
