import os

import asyncpg
import pytest

from devstack.postgres import PostgresServer
from devstack.throwaway import DatabaseFactory, ThrowawayPostgres


class Migration:
    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, dsn: str) -> None:
        self.runs += 1
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE note (text text)")
        await connection.close()


async def query(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_each_test_gets_a_migrated_database_of_its_own(databases: DatabaseFactory) -> None:
    migrate = Migration()
    async with databases.fresh("isolation", migrate) as one, databases.fresh("isolation", migrate) as two:
        await query(one, "INSERT INTO note VALUES ('mine') RETURNING text")

        assert await query(one, "SELECT count(*) FROM note") == 1
        assert await query(two, "SELECT count(*) FROM note") == 0

    assert migrate.runs == 1


async def test_the_role_owns_its_database_and_is_no_superuser(databases: DatabaseFactory) -> None:
    async with databases.fresh("ownership", Migration()) as dsn:
        assert await query(dsn, "SELECT current_user") == "ownership"
        assert await query(dsn, "SELECT usesuper FROM pg_user WHERE usename = current_user") is False
        assert await query(dsn, "SELECT tableowner FROM pg_tables WHERE tablename = 'note'") == "ownership"


async def test_a_database_is_dropped_even_when_a_test_forgot_a_connection(
    databases: DatabaseFactory, postgres_server: PostgresServer
) -> None:
    async with databases.fresh("forgetful", Migration()) as dsn:
        forgotten = await asyncpg.connect(dsn)

    name = dsn.rpartition("/")[2]
    assert await query(postgres_server.dsn(), f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == 0
    forgotten.terminate()


async def test_an_empty_database_has_no_schema(databases: DatabaseFactory) -> None:
    async with databases.empty("migrations") as dsn:
        assert await query(dsn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_a_plain_function_can_migrate_too(databases: DatabaseFactory) -> None:
    seen: list[str] = []
    async with databases.fresh("plain", seen.append) as dsn:
        assert seen[0].rpartition("/")[2] == "template_plain"
        assert await query(dsn, "SELECT 1") == 1


async def test_a_migration_that_fails_is_the_tests_failure(databases: DatabaseFactory) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("bad migration")

    with pytest.raises(RuntimeError, match="bad migration"):
        async with databases.fresh("failing", fail):
            pass


def test_the_server_and_its_data_are_gone_afterwards() -> None:
    with ThrowawayPostgres() as postgres:
        pid, directory = postgres.pid, postgres.server.directory
        assert directory.exists()

    assert not directory.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
