"""Erasing people from the trail: who was erased, and a trigger that lets content go and nothing else change.

Going down restores the old trigger; what was erased stays so.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

# The chain does not cover the content but by its digest, so the content can go and the chain still holds. Every column
# that is not content must be what it was; an entry is erased at once: whole, or its actor when only that was erased.
_ALLOW_ERASING = """
    CREATE FUNCTION refuse_all_but_erasing() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        erased audit_entries := OLD;
    BEGIN
        erased.actor := 'erased';
        erased.salt := '';
        erased.erased_at := NEW.erased_at;
        IF NEW.erased_at IS NOT NULL AND NEW IS NOT DISTINCT FROM erased THEN
            RETURN NEW;
        END IF;
        erased.owner_id := 'erased';
        erased.changes := '{}';
        erased.task := '{}';
        erased.corr_id := '';
        IF NEW.erased_at IS NOT NULL AND NEW IS NOT DISTINCT FROM erased THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% refused: % is append-only', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END
    $$
"""


def upgrade() -> None:
    """Add the table, the column, an index for entries of tasks that somebody else changed, and the trigger."""
    op.create_table(
        "erased_subjects",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("erased_subjects_digest_check")),
    )
    op.add_column("audit_entries", sa.Column("erased_at", sa.DateTime(timezone=True)))
    op.create_index(
        "audit_entries_foreign_actor_idx",
        "audit_entries",
        ["actor", "sequence"],
        postgresql_where=sa.text("actor <> owner_id"),
    )
    op.execute("DROP TRIGGER audit_entries_append_only ON audit_entries")
    op.execute(_ALLOW_ERASING)
    op.execute(
        "CREATE TRIGGER audit_entries_append_only BEFORE DELETE OR TRUNCATE ON audit_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER audit_entries_only_erased BEFORE UPDATE ON audit_entries "
        "FOR EACH ROW EXECUTE FUNCTION refuse_all_but_erasing()"
    )


def downgrade() -> None:
    """Take them away; from then on nothing can be erased."""
    op.execute("DROP TRIGGER audit_entries_only_erased ON audit_entries")
    op.execute("DROP TRIGGER audit_entries_append_only ON audit_entries")
    op.execute("DROP FUNCTION refuse_all_but_erasing()")
    op.execute(
        "CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.drop_index("audit_entries_foreign_actor_idx", "audit_entries")
    op.drop_column("audit_entries", "erased_at")
    op.drop_table("erased_subjects")
