"""The history of completions, comments, and an index for the purge of deleted tasks. Only adds.

Old code runs on it: the new column may be empty, and it knows nothing of the new tables. What it completes or reopens
while replicas are replaced one by one is not in the history.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

_TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables, and begin the history with what is completed now."""
    op.add_column("tasks", sa.Column("series_id", sa.BigInteger))
    op.create_index("tasks_deleted_at_idx", "tasks", ["deleted_at"], postgresql_where=sa.text("deleted_at IS NOT NULL"))
    op.create_table(
        "completions",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sa.Column("series_id", sa.BigInteger, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("completed_at", _TIMESTAMP, nullable=False),
        sa.Column("reopened_at", _TIMESTAMP),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("completions_task_id_fkey"), ondelete="CASCADE"),
    )
    # Before its indexes, which are faster made of rows that are there. Writers wait: the foreign key holds the tasks.
    op.execute(
        """
        INSERT INTO completions (owner_id, task_id, series_id, title, completed_at)
        SELECT owner_id, id, id, title, completed_at FROM tasks WHERE completed ORDER BY completed_at, id
        """
    )
    op.create_index("completions_owner_id_completed_at_idx", "completions", ["owner_id", "completed_at", "id"])
    op.create_index("completions_series_id_completed_at_idx", "completions", ["series_id", "completed_at", "id"])
    op.create_index("completions_task_id_idx", "completions", ["task_id"])
    op.create_index(
        "completions_standing_key",
        "completions",
        ["task_id"],
        unique=True,
        postgresql_where=sa.text("reopened_at IS NULL"),
    )
    op.create_table(
        "comments",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sa.Column("author_id", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        sa.Column("edited_at", _TIMESTAMP),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("comments_task_id_fkey"), ondelete="CASCADE"),
        sa.CheckConstraint("version >= 1", name=op.f("comments_version_check")),
    )
    op.create_index("comments_task_id_id_idx", "comments", ["task_id", "id"])


def downgrade() -> None:
    """Drop them; comments are lost, and of the history what is not completed at the next upgrade."""
    op.drop_table("comments")
    op.drop_table("completions")
    op.drop_index("tasks_deleted_at_idx", "tasks")
    op.drop_column("tasks", "series_id")
