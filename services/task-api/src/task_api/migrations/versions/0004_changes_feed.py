"""The transaction of every task's last change, which the feed of changes goes by.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column, the trigger that keeps it, and the index of the feed.

    A trigger, because replicas of the release before go on writing while this one is rolled out, and because no
    statement written later can forget it.
    """
    # All that is there changes now: should this be an upgrade after a downgrade, cursors from before miss nothing. The
    # default is evaluated once and rewrites no row.
    now = sa.text("pg_current_xact_id()::text::bigint")
    op.add_column("tasks", sa.Column("changed_xid", sa.BigInteger, nullable=False, server_default=now))
    op.alter_column("tasks", "changed_xid", server_default=sa.text("0"))
    op.execute(
        """
        CREATE FUNCTION tasks_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.changed_xid := pg_current_xact_id()::text::bigint;
            RETURN NEW;
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER tasks_note_change BEFORE INSERT OR UPDATE ON tasks
        FOR EACH ROW EXECUTE FUNCTION tasks_note_change()
        """
    )
    op.create_index("tasks_owner_id_changed_xid_id_idx", "tasks", ["owner_id", "changed_xid", "id"])


def downgrade() -> None:
    """Take them away again."""
    op.drop_index("tasks_owner_id_changed_xid_id_idx", "tasks")
    op.execute("DROP TRIGGER tasks_note_change ON tasks")
    op.execute("DROP FUNCTION tasks_note_change()")
    op.drop_column("tasks", "changed_xid")
