"""What a migration must not do is refused; every rule that matters is seen to refuse something."""

import pytest

from contracts.migrations import Breach, Explained, accepted, breaches, revisions, unexplained

IN_TRANSACTION = "BEGIN;\n{};\n\nCOMMIT;\n"


def rules(sql: str) -> set[str]:
    return {breach.rule for breach in breaches({"task_api 0099": sql})}


def test_every_migration_there_is_keeps_to_the_rules_or_says_why_not() -> None:
    assert unexplained(breaches(revisions()), accepted()) == []


def test_every_revision_of_every_service_is_looked_at() -> None:
    rendered = revisions()
    assert {"task_api 0001", "audit_worker 0001", "notifier 0001"} <= rendered.keys()
    assert "CREATE TABLE tasks" in rendered["task_api 0001"]
    assert not any("alembic_version" in sql for sql in rendered.values())


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX tasks_x_idx ON tasks (title)", "require-concurrent-index-creation"),
        ("DROP INDEX tasks_words_idx", "require-concurrent-index-deletion"),
        ("ALTER TABLE tasks RENAME COLUMN title TO name", "renaming-column"),
        ("ALTER TABLE tasks RENAME TO things", "renaming-table"),
        ("ALTER TABLE tasks DROP COLUMN title", "ban-drop-column"),
        ("DROP TABLE tasks", "ban-drop-table"),
        ("ALTER TABLE tasks ALTER COLUMN version TYPE bigint", "changing-column-type"),
        ("ALTER TABLE tasks ADD COLUMN x text NOT NULL", "adding-required-field"),
        ("ALTER TABLE tasks ALTER COLUMN parent_id SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE tasks ADD COLUMN x text DEFAULT random()::text", "adding-field-with-default"),
        ("ALTER TABLE tasks ADD CONSTRAINT c CHECK (title <> '')", "constraint-missing-not-valid"),
        ("ALTER TABLE tasks ADD CONSTRAINT u UNIQUE (title)", "disallowed-unique-constraint"),
        (
            "ALTER TABLE tasks ADD CONSTRAINT f FOREIGN KEY (parent_id) REFERENCES tasks (id)",
            "adding-foreign-key-constraint",
        ),
        ("ALTER TABLE tasks ALTER COLUMN title DROP NOT NULL", "ban-drop-not-null"),
        ("ALTER TABLE tasks DROP CONSTRAINT tasks_version_check", "ban-drop-constraint"),
        ("TRUNCATE tasks CASCADE", "ban-truncate-cascade"),
        ("UPDATE tasks SET title = 'x'", "rows-in-one-transaction"),
        ("DELETE FROM tasks", "rows-in-one-transaction"),
        ("WITH old AS (SELECT id FROM tasks)\nUPDATE tasks SET title = 'x'", "rows-in-one-transaction"),
        ("DO $$\nBEGIN\n  DELETE FROM tasks;\nEND $$", "rows-in-one-transaction"),
        ("MERGE INTO tasks USING users ON true WHEN MATCHED THEN DELETE", "rows-in-one-transaction"),
        ("LOCK TABLE tasks", "lock-table"),
        ("CLUSTER tasks USING tasks_pkey", "table-written-anew"),
        ("REINDEX TABLE tasks", "table-written-anew"),
        ("VACUUM (FULL) tasks", "table-written-anew"),
        ("TRUNCATE tasks", "truncate"),
        ("DROP FUNCTION task_words(text, tsvector)", "drops-what-is-called"),
        ("CREATE INDEX CONCURRENTLY x ON tasks (title)", "ban-concurrent-index-creation-in-transaction"),
    ],
)
def test_a_bad_migration_is_refused(statement: str, rule: str) -> None:
    assert rule in rules(IN_TRANSACTION.format(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE new (id bigint PRIMARY KEY, name text NOT NULL);\nCREATE INDEX new_name_idx ON new (name)",
        "ALTER TABLE tasks ADD COLUMN x text",
        "ALTER TABLE tasks ADD COLUMN x text NOT NULL DEFAULT 'a'",
        "ALTER TABLE tasks ADD CONSTRAINT c CHECK (title <> '') NOT VALID",
        "COMMIT;\n\nREINDEX TABLE CONCURRENTLY tasks;\n\nBEGIN",
        "COMMIT;\n\nCREATE INDEX CONCURRENTLY x ON tasks (title);\n\nBEGIN",
    ],
)
def test_what_lets_everybody_go_on_is_not_refused(statement: str) -> None:
    assert rules(IN_TRANSACTION.format(statement)) == set()


def test_an_exception_explains_as_many_as_it_says_and_is_refused_when_it_explains_none() -> None:
    found = [Breach("task_api 0099", "lock-table", "LOCK TABLE tasks", "why")] * 2
    one = Explained(revision="task_api 0099", rule="lock-table", statements=1, why="x")
    two, three = (one.model_copy(update={"statements": number}) for number in (2, 3))
    assert len(unexplained(found, [one])) == 2
    assert unexplained(found, [two]) == []
    assert unexplained(found, [three]) == ["task_api 0099: lock-table is accepted more often than it is found"]
    assert unexplained([], [one]) != []
    assert unexplained(found, [two, two]) == ["task_api 0099: lock-table is accepted twice"]
