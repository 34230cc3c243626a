"""Calendar feeds.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "calendar_feeds",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token_digest", sa.LargeBinary, nullable=False),
        sa.Column("token_hint", sa.Text, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("token_created_at", _TIMESTAMP, nullable=False),
        sa.CheckConstraint("octet_length(token_digest) = 32", name=op.f("calendar_feeds_token_digest_check")),
    )
    op.create_index("calendar_feeds_token_digest_key", "calendar_feeds", ["token_digest"], unique=True)
    op.create_index("calendar_feeds_owner_id_id_idx", "calendar_feeds", ["owner_id", "id"])


def downgrade() -> None:
    """Drop it; every address of a feed is void after that."""
    op.drop_table("calendar_feeds")
