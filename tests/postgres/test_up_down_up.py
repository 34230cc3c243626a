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

from chassis.migrations import alembic_config, downgrade, upgrade
from devstack.databases import CONNECT_TIMEOUT, quoted
from devstack.throwaway import DatabaseFactory

Columns = dict[str, dict[int, str]]
"""Of each `table.column` the value in each row, as JSON; the row by its number here."""

HASH = "'" + "a" * 64 + "'"
DIGEST = "decode(lpad(to_hex({n}), 64, '0'), 'hex')"
VALUES: Final[Mapping[str, str]] = {
    "priority": "'low'",
    "role": "'editor'",
    "status": "'open'",
    "body_sha256": HASH,
    "digest": DIGEST,
}
"""SQL of what a column must be like, by its name or by its table and name; `{n}` is the number of the row."""

ONE_ROW: Final = {"chain_head"}
"""Tables that a migration fills and nothing is added to."""

LOST: Final[Mapping[str, set[str]]] = {}


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
    below = "base"
    for number, revision in enumerate(revisions(package), 1001):
        await asyncio.to_thread(upgrade, package, url, revision)
        await add_rows(connection, number)
        before = await contents(connection)
        await asyncio.to_thread(downgrade, package, url, below)
        down = await contents(connection)
        await asyncio.to_thread(upgrade, package, url, revision)
        after = await contents(connection)
        lost = {name for name in before if any(before[name][row] != after[name].get(row) for row in before[name])}
        # What is there below is as it was: nobody who goes back to the release before misses it.
        lost |= {name for name in down if name in before and not down[name].items() >= before[name].items()}
        assert lost == LOST.get(f"{package} {revision}", set()), f"{package} {revision}"
        await add_rows(connection, number)
        below = revision
    await connection.close()


async def add_rows(connection: asyncpg.Connection, number: int) -> None:
    """Put a row with this number into every table that has none; a table waits for those it refers to."""
    waiting = set(await tables(connection)) - ONE_ROW
    while waiting:
        left = set()
        for table in waiting:
            try:
                await add_row(connection, table, number)
            except asyncpg.ForeignKeyViolationError:
                left.add(table)
        assert left != waiting, f"no row can be made in any of {sorted(left)}"
        waiting = left


async def add_row(connection: asyncpg.Connection, table: str, number: int) -> None:
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
        await connection.execute(f"{statement} ON CONFLICT DO NOTHING")
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
        "timestamp with time zone": "'2026-01-01Z'::timestamptz + {n} * interval '1 minute'",
        "date": "'2026-01-01'::date",
    }.get(kind, "{n}")


async def tables(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    return [row["name"] for row in rows if row["name"] != "alembic_version"]


async def contents(connection: asyncpg.Connection) -> Columns:
    found: Columns = {}
    for table in await tables(connection):
        rows = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM {quoted(table)} AS t ORDER BY t::text")
        for number, row in enumerate(rows):
            for column, value in json.loads(row["row"]).items():
                found.setdefault(f"{table}.{column}", {})[number] = json.dumps(value)
    return found
