"""Rows of files that were imported, so that a file sent again makes no task twice. Only adds.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "import_rows",
        sa.Column("import_id", sa.Uuid, primary_key=True),
        sa.Column("reference", sa.Text, primary_key=True),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("import_rows_expires_at_idx", "import_rows", ["expires_at"])


def downgrade() -> None:
    """Drop it; files that are sent again after that are imported again."""
    op.drop_table("import_rows")
