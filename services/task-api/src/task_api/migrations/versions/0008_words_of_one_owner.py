"""Indexes of the words of one owner, each behind a mark of its owner, and of titles. Drops two that they replace.

Indexes are made and dropped CONCURRENTLY: tasks are written meanwhile. A migration that was killed leaves an index that
is not valid, which the next attempt makes anew. Replicas of the release before run on it: what they search by the index
that goes is then found among all tasks of the owner, more slowly and the same.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

# The mark is shorter than the hash, and words are cut, to keep the index small. Whatever begins with a word begins with
# the word cut, so the index gives too much at most, and `search`, `tags` and `owner_id` have the last word.
_WORDS = r"""
CREATE OR REPLACE FUNCTION task_words(owner_id text, words tsvector) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT COST 1000
RETURN (
    SELECT array_to_tsvector(array_agg(left(md5(owner_id), 8) || left(lexeme, 64)))
    FROM unnest(tsvector_to_array(words)) AS lexeme
    WHERE left(lexeme, 1) <> chr(1)
)
"""
_QUERY = r"""
CREATE OR REPLACE FUNCTION task_words_query(owner_id text, words text[]) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (
    SELECT string_agg(
        '''' || replace(replace(left(md5(owner_id), 8) || left(lexeme, 64), '\', '\\'), '''', '''''') || ''':*', ' & '
    )::tsquery
    FROM unnest(words) AS word, unnest(tsvector_to_array(to_tsvector('simple'::regconfig, word))) AS lexeme
)
"""
_ALIVE = "WHERE (deleted_at IS NULL)"
_NEW = {
    "tasks_owner_id_title_idx": f"(owner_id, lower(title), id) {_ALIVE}",
    "tasks_words_idx": "USING gin (task_words(owner_id, search)) WITH (fastupdate = off)",
}
_OLD = {
    "tasks_search_idx": "USING gin (search)",
    "tasks_owner_id_id_idx": f"(owner_id, id DESC) {_ALIVE}",
}


def upgrade() -> None:
    """Make the new ones, then drop that of everybody's words, and one that only code of revision 0001 used."""
    op.execute(_WORDS)
    op.execute(_QUERY)
    _replace(_OLD, by=_NEW)


def downgrade() -> None:
    """The other way round."""
    _replace(_NEW, by=_OLD)
    op.execute("DROP FUNCTION task_words(text, tsvector)")
    op.execute("DROP FUNCTION task_words_query(text, text[])")


def _replace(old: dict[str, str], *, by: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        for name, definition in by.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON tasks {definition}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute("ANALYZE tasks")
