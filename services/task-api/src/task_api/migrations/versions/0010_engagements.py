"""Engagements, their members and invitations. Only adds.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)
_ROLES = "role IN ('owner', 'editor', 'viewer')"
# From now on nobody can be called so; whoever was would own the tasks of an engagement, and its members theirs.
_NOBODY_IS_CALLED_SO = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM tasks WHERE owner_id LIKE 'engagement:%') THEN
        RAISE EXCEPTION 'there are tasks of users whose name begins with "engagement:": give them another owner first';
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(_NOBODY_IS_CALLED_SO)
    op.create_table(
        "engagements",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("updated_at", _TIMESTAMP, nullable=False),
        sa.Column("deleted_at", _TIMESTAMP),
        sa.Column("deleted_by", sa.Text),
        sa.Column("deleted_corr_id", sa.Text),
        sa.Column("last_members", ARRAY(sa.Text)),
        sa.Column("ended_at", _TIMESTAMP),
        sa.CheckConstraint("version >= 1", name=op.f("engagements_version_check")),
    )
    op.create_index(
        "engagements_ending_idx",
        "engagements",
        ["id"],
        postgresql_where=sa.text("deleted_at IS NOT NULL AND ended_at IS NULL"),
    )
    op.create_table(
        "engagement_members",
        sa.Column("engagement_id", sa.BigInteger, sa.ForeignKey("engagements.id"), primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("joined_at", _TIMESTAMP, nullable=False),
        sa.CheckConstraint(_ROLES, name=op.f("engagement_members_role_check")),
    )
    op.create_index(
        "engagement_members_user_id_engagement_id_idx",
        "engagement_members",
        ["user_id", "engagement_id"],
        postgresql_include=["role"],
    )
    op.create_table(
        "engagement_invitations",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("engagement_id", sa.BigInteger, sa.ForeignKey("engagements.id"), nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("token_digest", sa.LargeBinary, nullable=False),
        sa.Column("token_hint", sa.Text, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("expires_at", _TIMESTAMP, nullable=False),
        sa.Column("accepted_by", sa.Text),
        sa.CheckConstraint(_ROLES, name=op.f("engagement_invitations_role_check")),
        sa.CheckConstraint("octet_length(token_digest) = 32", name=op.f("engagement_invitations_token_digest_check")),
    )
    op.create_index("engagement_invitations_token_digest_key", "engagement_invitations", ["token_digest"], unique=True)
    op.create_index("engagement_invitations_engagement_id_id_idx", "engagement_invitations", ["engagement_id", "id"])


def downgrade() -> None:
    """Drop them; the tasks inside stay, and belong to nobody."""
    for table in ("engagement_invitations", "engagement_members", "engagements"):
        op.drop_table(table)
