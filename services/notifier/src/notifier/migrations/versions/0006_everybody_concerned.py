"""Several people may be told of one event.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

_ONE = "notifications_event_id_key"
_EACH = "notifications_event_id_owner_id_key"
_FIRST_OF_EACH = """
DELETE FROM notifications AS later USING notifications AS first
WHERE later.event_id = first.event_id AND later.id > first.id
"""


def upgrade() -> None:
    """Let an event have a notification for each person; a replica of the release before writes one, as it did."""
    op.create_unique_constraint(op.f(_EACH), "notifications", ["event_id", "owner_id"])
    op.drop_constraint(op.f(_ONE), "notifications")


def downgrade() -> None:
    """Keep one notification of each event, the first: the schema before has no room for more."""
    op.execute(_FIRST_OF_EACH)
    op.create_unique_constraint(op.f(_ONE), "notifications", ["event_id"])
    op.drop_constraint(op.f(_EACH), "notifications")
