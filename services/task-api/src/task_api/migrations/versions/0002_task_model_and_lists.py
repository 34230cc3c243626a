"""Tags, position, subtasks, recurrence; text search and an index for each kind of list. Only adds.

Old code runs on it: every new column has a default. Adding `search` rewrites the table under a lock, so
writers wait meanwhile.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_ALIVE = "deleted_at IS NULL"
_OPEN = "deleted_at IS NULL AND completed IS false"
_DUE = "coalesce(due_at, 'infinity'::timestamptz)"
_URGENCY = "array_position(ARRAY['high', 'medium', 'low'], priority)"
_PUNCTUATION = (
    "!\"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~"
    "\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb\u2013\u2014\u2026\u00b7\u2022\u3001\u3002"
    "\uff0c\uff01\uff1f\uff1a\uff1b\uff08\uff09\u300c\u300d\u061f\u060c\u05f3\u05f4"
)
_SPACES = " " * (len(_PUNCTUATION) - 1)  # the apostrophe is written twice
_WORDS = f"to_tsvector('simple'::regconfig, translate(<>, '{_PUNCTUATION}', '{_SPACES}'))"
_SEARCH = (
    "setweight(" + _WORDS.replace("<>", "title") + ", 'A')"
    " || setweight(" + _WORDS.replace("<>", "coalesce(description, '')") + ", 'C')"
    " || array_to_tsvector(tags) || array_to_tsvector(ARRAY[chr(1) || md5(owner_id)])"
)
_POSITION = "lpad(to_hex((extract(epoch FROM {}) * 1000000)::bigint), 14, '0')"
_INDEXES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("tasks_owner_id_created_at_idx", ("owner_id", "created_at", "id"), _ALIVE),
    ("tasks_owner_id_due_idx", ("owner_id", _DUE, "id"), _ALIVE),
    ("tasks_open_due_idx", ("owner_id", _DUE, "id"), _OPEN),
    ("tasks_open_urgency_idx", ("owner_id", _URGENCY, _DUE, "id"), _OPEN),
    ("tasks_owner_id_updated_at_idx", ("owner_id", "updated_at", "id"), _ALIVE),
    ("tasks_owner_id_position_idx", ("owner_id", "position", "id"), _ALIVE),
    ("tasks_parent_id_idx", ("parent_id",), "parent_id IS NOT NULL"),
)


def upgrade() -> None:
    """Add the columns, order what is there by its age, and add the indexes."""
    op.add_column("tasks", sa.Column("tags", postgresql.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")))
    op.add_column("tasks", sa.Column("position", sa.Text(collation="C")))
    op.add_column("tasks", sa.Column("parent_id", sa.BigInteger))
    op.add_column("tasks", sa.Column("recurrence", postgresql.JSONB))
    op.execute(sa.text(f"UPDATE tasks SET position = {_POSITION.format('created_at')}"))  # noqa: S608 (no input)
    op.alter_column("tasks", "position", nullable=False, server_default=sa.text(_POSITION.format("now()")))
    op.add_column(
        "tasks", sa.Column("search", postgresql.TSVECTOR, sa.Computed(_SEARCH, persisted=True), nullable=False)
    )
    op.create_foreign_key(op.f("tasks_parent_id_fkey"), "tasks", "tasks", ["parent_id"], ["id"])
    for name, columns, condition in _INDEXES:
        expressions = [sa.text(column) if "(" in column else column for column in columns]
        op.create_index(name, "tasks", expressions, postgresql_where=sa.text(condition))
    op.create_index("tasks_search_idx", "tasks", ["search"], postgresql_using="gin")


def downgrade() -> None:
    """Take it all away."""
    op.drop_index("tasks_search_idx", "tasks")
    for name, _, _ in reversed(_INDEXES):
        op.drop_index(name, "tasks")
    op.drop_constraint(op.f("tasks_parent_id_fkey"), "tasks")
    for column in ("search", "recurrence", "parent_id", "position", "tags"):
        op.drop_column("tasks", column)
