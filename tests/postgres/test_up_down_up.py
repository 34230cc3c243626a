"""Every revision of every service: up, down and up again on data; what is lost by that is lost by name.

Rows are made from the tables as they are, so a new revision is looked at without a word here. It fails where a row
cannot be made up (say in `VALUES` what the table wants), and where something is lost that `LOST` does not name.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Final

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from pydantic import JsonValue

from chassis.migrations import alembic_config, downgrade, upgrade
from devstack.databases import CONNECT_TIMEOUT, quoted
from devstack.throwaway import DatabaseFactory

Contents = dict[str, dict[str, dict[str, JsonValue]]]
"""Of each table its rows, by their primary keys."""

HASH = "lpad(to_hex({n}), 64, '0')"
DIGEST = "decode(lpad(to_hex({n}), 64, '0'), 'hex')"
VALUES: Final[Mapping[str, str]] = {
    "priority": "'low'",
    "tasks.completed": "true",
    "tasks.position": "'{n}'",
    "role": "'editor'",
    "dead_letters.status": "'open'",
    "closed_at": "NULL",
    "account_erasures.erased_at": "NULL",
    "audit_entries.erased_at": "NULL",
    "content_hash": HASH,
    "actor_hash": HASH,
    "prev_hash": HASH,
    "hash": HASH,
    "from_version": "1",
    "digest": DIGEST,
    "token_digest": DIGEST,
    "subject_digest": DIGEST,
    # From 0006 on several people are told of one event, which the schema before has no place for.
    "notifications.event_id": "'event ' || least({n}, 1005)",
}
"""SQL of what a column must be like, by its name or by its table and name; `{n}` is the number of the row."""

ONE_ROW: Final = {"chain_head"}
"""Tables that a migration fills and nothing is added to."""

LOST: Final[Mapping[str, Mapping[str, set[str]]]] = {
    "task_api": {
        "0001": {"outbox", "tasks"},
        "0002": {"tasks.parent_id", "tasks.position", "tasks.recurrence", "tasks.tags"},
        "0003": {"idempotency_keys"},
        "0004": {"tasks.changed_xid"},  # who keeps a copy begins anew
        "0005": {"comments", "rows of completions", "tasks.series_id"},
        "0006": {"calendar_feeds"},
        "0007": {"import_rows"},
        "0009": {"api_key_secrets", "api_keys"},
        "0010": {"engagement_invitations", "engagement_members", "engagements"},
        # Events of accounts: the relay of the release before would send them to `tasks`.
        "0011": {"account_erasure_confirmations", "account_erasures", "profiles", "rows of outbox"},
        "0012": {"proxy_nonces"},
        # The name of an engagement that has ended goes for good, and who goes up again asks the erasures anew.
        "0013": {"account_erasures.engagements", "engagements.name"},
    },
    "audit_worker": {
        "0001": {"audit_entries", "inbox_events", "inbox_subjects"},
        "0002": {"rows of inbox_gaps"},
        "0003": {"dead_letters", "event_failures"},
        "0004": {"proxy_nonces"},
        "0005": {"erased_subjects"},
    },
    "notifier": {
        "0001": {"inbox_events", "inbox_subjects", "notifications"},
        "0002": {"rows of inbox_gaps"},
        "0003": {"dead_letters", "event_failures"},
        "0004": {"proxy_nonces"},
        "0005": {"erased_subjects"},
        "0006": {"rows of notifications"},
    },
}
"""What going down and up again empties or changes: tables, `rows of` some, columns. Nothing else may be."""


def revisions(package: str) -> list[str]:
    scripts = ScriptDirectory.from_config(alembic_config(package)).walk_revisions()
    return [script.revision for script in scripts][::-1]


@pytest.fixture
async def url(databases: DatabaseFactory, package: str) -> AsyncIterator[str]:
    async with databases.empty(package) as url:
        yield url


@pytest.mark.parametrize("package", ["task_api", "audit_worker", "notifier"])
async def test_every_revision_goes_down_and_up_again_and_loses_nothing_but_what_is_named(
    url: str, package: str
) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
    below, found = "base", dict[str, set[str]]()
    for number, revision in enumerate(revisions(package), 1001):
        await asyncio.to_thread(upgrade, package, url, revision)
        alike = await add_rows(connection, number)
        assert not alike, "say in VALUES what makes the rows of these tables unlike those that are there"
        before = await contents(connection)
        await asyncio.to_thread(downgrade, package, url, below)
        down = await contents(connection)
        await asyncio.to_thread(upgrade, package, url, revision)
        after = await contents(connection)
        # What is there below is as it was, too: nobody who goes back to the release before misses it.
        if lost := missing(before, after) | missing(below_of(before, down), down):
            found[revision] = lost
        await add_rows(connection, number)
        below = revision
    await connection.close()
    assert found == LOST[package]


async def add_rows(connection: asyncpg.Connection, number: int) -> set[str]:
    """Put a row with this number into every table; a table waits for those it refers to.

    Returns:
        Tables where one is that this is too much like: with this number, or with the same in a column that is unique.
    """
    waiting, alike = set(await tables(connection)) - ONE_ROW, set[str]()
    while waiting:
        left = set()
        for table in waiting:
            try:
                if not await add_row(connection, table, number):
                    alike.add(table)
            except asyncpg.ForeignKeyViolationError:
                left.add(table)
        assert left != waiting, f"no row can be made in any of {sorted(left)}"
        waiting = left
    return alike


async def add_row(connection: asyncpg.Connection, table: str, number: int) -> bool:
    columns = await connection.fetch(
        """
        SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
        WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        """,
        table,
    )
    values = {row["name"]: value_of(table, row["name"], row["type"]).format(n=number) for row in columns}
    names = ", ".join(map(quoted, values))
    statement = f"INSERT INTO {quoted(table)} ({names}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values.values())})"
    try:
        return bool(await connection.execute(f"{statement} ON CONFLICT DO NOTHING") == "INSERT 0 1")
    except asyncpg.CheckViolationError as error:
        raise AssertionError(f"{table}: say in VALUES what {error.constraint_name} wants") from error


def value_of(table: str, column: str, kind: str) -> str:
    for name in (f"{table}.{column}", column):
        if name in VALUES:
            return VALUES[name]
    return {
        "text": f"'{column} {{n}}'",
        "character varying": f"'{column} {{n}}'",
        "uuid": "lpad('{n}', 32, '0')::uuid",
        "boolean": "false",
        "bytea": "'\\x{n}'::bytea",
        "jsonb": """'{{"n": {n}}}'::jsonb""",
        "text[]": "ARRAY['{n}']",
        "bigint[]": "ARRAY[{n}]::bigint[]",
        "timestamp with time zone": "'2026-01-01Z'::timestamptz + {n} * interval '1 minute'",
        "date": "'2026-01-01'::date",
    }.get(kind, "{n}")


async def tables(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    return [row["name"] for row in rows if row["name"] != "alembic_version"]


async def contents(connection: asyncpg.Connection) -> Contents:
    found: Contents = {}
    for table in await tables(connection):
        rows = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM {quoted(table)} AS t")
        identity = await connection.fetch(
            """
            SELECT attname AS name FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
            WHERE indisprimary AND indrelid = $1::regclass
            """,
            table,
        )
        read = [json.loads(row["row"]) for row in rows]
        found[table] = {json.dumps([row[column["name"]] for column in identity]): row for row in read}
    return found


def below_of(before: Contents, down: Contents) -> Contents:
    """Give of what was there before only what the schema below has a place for."""
    places = {table: {column for row in rows.values() for column in row} for table, rows in down.items()}
    return {
        table: {row: {c: v for c, v in columns.items() if c in places[table]} for row, columns in before[table].items()}
        for table in down
        if table in before and places[table]
    }


def missing(before: Contents, after: Contents) -> set[str]:
    """Name tables that are empty now, tables that miss rows, and columns that are not as they were."""
    found = set()
    for table, rows in before.items():
        left = after.get(table, {})
        changed = {c for row in rows.keys() & left.keys() for c, v in rows[row].items() if left[row].get(c) != v}
        if rows and not left:
            found.add(table)
        elif rows.keys() - left.keys():
            found.add(f"rows of {table}")
        found |= {f"{table}.{column}" for column in changed}
    return found
