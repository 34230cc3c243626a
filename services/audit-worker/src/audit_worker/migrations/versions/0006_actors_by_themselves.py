"""A digest for the actor alone, so that who changed a task of others can be erased and the rest stays proven.

Replicas of the release before go on appending entries without one. They cannot erase an entry that has one, which would
leave the salt: the trigger refuses that, and the request comes again until a replica of this release has it.

Going down keeps the digests and the trigger that knows them, and the release before does not look at them. Without them
nothing would prove the content of their entries any more, which `verify` would report for ever.

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
        IF OLD.actor_hash IS NULL THEN
            erased.salt := '';
        ELSE
            erased.actor_salt := '';
        END IF;
        erased.erased_at := NEW.erased_at;
        IF NEW.erased_at IS NOT NULL AND NEW IS NOT DISTINCT FROM erased THEN
            RETURN NEW;
        END IF;
        erased.owner_id := 'erased';
        erased.changes := '{}';
        erased.task := '{}';
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
_CONDITIONS = {
    "actor_hash": "actor_hash ~ '^[0-9a-f]{64}$'",
    "actor_salt": "(actor_salt IS NULL) = (actor_hash IS NULL)",
}


def upgrade() -> None:
    """Add the columns, empty in what is there, and have the trigger know them."""
    for column in ("actor_salt", "actor_hash"):
        op.add_column("audit_entries", sa.Column(column, sa.Text), if_not_exists=True)
    for column, condition in _CONDITIONS.items():
        op.create_check_constraint(op.f(f"audit_entries_{column}_check"), "audit_entries", condition)
    op.execute(_FUNCTION)


def downgrade() -> None:
    """Take the conditions away."""
    for column in _CONDITIONS:
        op.drop_constraint(op.f(f"audit_entries_{column}_check"), "audit_entries")
