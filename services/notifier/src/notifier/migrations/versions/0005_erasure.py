"""Who was erased.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "erased_subjects",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("erased_subjects_digest_check")),
    )


def downgrade() -> None:
    """Drop it; late events of those who were erased are taken for anybody's after that."""
    op.drop_table("erased_subjects")
