"""Nonces of requests that a trusted proxy signed, each taken once. Only adds.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "proxy_nonces",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("nonce", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("proxy_nonces_expires_at_idx", "proxy_nonces", ["expires_at"])


def downgrade() -> None:
    """Drop it; wait two minutes before proxies are accepted again, for what was signed until then."""
    op.drop_table("proxy_nonces")
