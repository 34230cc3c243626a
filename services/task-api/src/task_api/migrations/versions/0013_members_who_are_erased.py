"""Nobody who is being erased comes into an engagement or gets an API key; which engagements end with a user.

Replicas of the release before leave the new column as it is: what they begin asks for no engagement to be erased. What
is left there of engagements that were deleted before is their name, which goes.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

_REFUSED = (("engagement_members", "user_id"), ("api_keys", "owner_id"))


def upgrade() -> None:
    """Add the column and two triggers, of functions that are there since 0011."""
    engagements: sa.Column[list[int]] = sa.Column(
        "engagements", ARRAY(sa.BigInteger), nullable=False, server_default=sa.text("'{}'")
    )
    op.add_column("account_erasures", engagements)
    for table, column in _REFUSED:
        op.execute(
            f"CREATE TRIGGER refuse_erased AFTER INSERT OR UPDATE OF {column} ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION refuse_erased_{column}()"
        )
    op.execute("UPDATE engagements SET name = '' WHERE ended_at IS NOT NULL")


def downgrade() -> None:
    """Take them away."""
    for table, _ in _REFUSED:
        op.execute(f"DROP TRIGGER refuse_erased ON {table}")
    op.drop_column("account_erasures", "engagements")
