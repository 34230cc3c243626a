"""A digest for the actor alone, so that who changed a task of others can be erased and the rest stays proven.

Replicas of the release before go on appending entries without one. They cannot erase an entry that has one, which would
leave the salt: the trigger refuses that, and the request comes again until a replica of this release has it.

Going down forgets the digests: the content of the entries that had one is not proven any more.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

_FUNCTION = """
    CREATE OR REPLACE FUNCTION refuse_all_but_erasing() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        erased audit_entries := OLD;
    BEGIN
        erased.actor := 'erased';
        {actor}
        erased.erased_at := NEW.erased_at;
        IF NEW.erased_at IS NOT NULL AND NEW IS NOT DISTINCT FROM erased THEN
            RETURN NEW;
        END IF;
        erased.owner_id := 'erased';
        erased.changes := '{{}}';
        erased.task := '{{}}';
        erased.corr_id := '';
        erased.salt := '';
        IF NEW.erased_at IS NOT NULL AND NEW IS NOT DISTINCT FROM erased THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% refused: % is append-only', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END
    $$
"""
_WITH_A_DIGEST = """
        IF OLD.actor_hash IS NULL THEN
            erased.salt := '';
        ELSE
            erased.actor_salt := '';
        END IF;
"""


def upgrade() -> None:
    """Add the columns, empty in what is there, and have the trigger know them."""
    op.add_column("audit_entries", sa.Column("actor_salt", sa.Text))
    op.add_column("audit_entries", sa.Column("actor_hash", sa.Text))
    op.create_check_constraint(op.f("audit_entries_actor_hash_check"), "audit_entries", "actor_hash ~ '^[0-9a-f]{64}$'")
    both = "(actor_salt IS NULL) = (actor_hash IS NULL)"
    op.create_check_constraint(op.f("audit_entries_actor_salt_check"), "audit_entries", both)
    op.execute(_FUNCTION.format(actor=_WITH_A_DIGEST))


def downgrade() -> None:
    """Take them away."""
    op.execute(_FUNCTION.format(actor="erased.salt := '';"))
    op.drop_column("audit_entries", "actor_salt")
    op.drop_column("audit_entries", "actor_hash")
