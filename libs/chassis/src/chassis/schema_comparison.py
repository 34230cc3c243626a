"""For tests: whether the migrations of a service and its models say the same."""

from typing import Final

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

# One line of text for every column, constraint, index and storage option of a schema.
_CATALOGUE: Final = text(
    """
    WITH tables AS (
        SELECT c.oid, c.relname, c.reloptions
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = :schema AND c.relkind = 'r' AND c.relname <> 'alembic_version'
    )
    SELECT format('%s column %s %s, not null %s, identity %s, default %s', relname, attname,
                  format_type(atttypid, atttypmod), attnotnull, attidentity, pg_get_expr(adbin, adrelid))
    FROM tables JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    UNION ALL
    SELECT format('%s constraint %s %s', relname, conname,
                  replace(pg_get_constraintdef(pg_constraint.oid), :schema || '.', ''))
    FROM tables JOIN pg_constraint ON conrelid = tables.oid
    UNION ALL
    SELECT format('%s index %s', relname, replace(pg_get_indexdef(indexrelid), :schema || '.', ''))
    FROM tables JOIN pg_index ON indrelid = tables.oid
    UNION ALL
    SELECT format('%s option %s', relname, unnest(reloptions)) FROM tables
    """
)


async def schema_differences(database_url: str, metadata: MetaData) -> list[str]:
    """Compare a migrated database with the tables that the models declare.

    Alembic's own comparison comes first. It looks at neither CHECK constraints nor storage options, so the
    catalogues are compared too, with the declared tables created beside the migrated ones and rolled back.
    """
    engine = create_async_engine(make_url(database_url).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_differences, metadata)
    finally:
        await engine.dispose()


def _differences(connection: Connection, metadata: MetaData) -> list[str]:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    found = [repr(difference) for difference in compare_metadata(context, metadata)]
    connection.execute(text("CREATE SCHEMA declared"))
    # Public comes second: for functions, which indexes may use.
    connection.execute(text("SET LOCAL search_path TO declared, public"))
    metadata.create_all(connection, checkfirst=False)
    migrated, declared = (_catalogue(connection, schema) for schema in ("public", "declared"))
    connection.rollback()
    found += [f"only migrated: {line}" for line in sorted(migrated - declared)]
    return found + [f"only declared: {line}" for line in sorted(declared - migrated)]


def _catalogue(connection: Connection, schema: str) -> set[str]:
    return set(connection.scalars(_CATALOGUE, {"schema": schema}))
