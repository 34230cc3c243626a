"""Everything through PgBouncer in transaction mode: each transaction may run on another connection of the server's.

`make test-pooler` runs all tests of the services so; what is here asks what only a pooler can get wrong.
"""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from audit_worker.app import create_app as create_audit_worker
from audit_worker.settings import AuditWorkerSettings
from chassis.database import Database, DatabaseUnavailableError, open_database
from chassis.migrations import upgrade
from chassis.service import migration_url
from chassis.settings import ServiceSettings
from chassis.testing import bearer, deliver, make_task_event, serving, settings_for
from devstack.databases import CONNECT_TIMEOUT
from devstack.pgbouncer import ThrowawayPgBouncer
from devstack.polling import within
from devstack.postgres import PostgresServer
from devstack.throwaway import DatabaseFactory
from notifier.app import create_app as create_notifier
from notifier.settings import NotifierSettings
from task_api.app import create_app
from task_api.outbox.repository import OutboxRepository
from task_api.settings import TaskApiSettings

PATIENCE = 90.0
CLIENTS = 12
"""Three for each connection of the pooler's to the server."""
LEFT = """
    SELECT 'setting', name || ' = ' || setting FROM pg_settings
    WHERE source = 'session' AND setting <> reset_val
      AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')
    UNION ALL SELECT 'prepared statement', statement FROM pg_prepared_statements WHERE name <> ''
    UNION ALL SELECT 'advisory lock', objid::text FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
async def database_url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        yield url


@pytest.fixture
def url(pgbouncer: ThrowawayPgBouncer, database_url: str) -> str:
    return pgbouncer.through(database_url)


def through(url: str, **more: object) -> ServiceSettings:
    return settings_for(ServiceSettings, url, database_pooler="transaction", **more)


@pytest.fixture
def app(url: str) -> FastAPI:
    nobody = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
    return create_app(settings_for(TaskApiSettings, url, database_pooler="transaction", **nobody))


async def backend(database: Database) -> tuple[int, str, str]:
    async with database.session() as session:
        connection = await session.connection()
        limits = "current_setting('statement_timeout'), current_setting('transaction_timeout')"
        pid, statement, transaction = (await connection.execute(text(f"SELECT pg_backend_pid(), {limits}"))).one()
        return pid, statement, transaction


async def test_one_connection_of_ours_meets_several_of_the_server_and_the_limits_go_with_each_transaction(
    url: str,
) -> None:
    settings = through(url, database_pool_size=CLIENTS, database_statement_timeout=40, database_transaction_timeout=90)
    database = open_database(settings, application_name="test")
    met = [one for _ in range(5) for one in await asyncio.gather(*(backend(database) for _ in range(CLIENTS)))]
    assert len({pid for pid, _, _ in met}) > 1
    assert {(statement, transaction) for _, statement, transaction in met} == {("40s", "90s")}
    await database.close()


async def left_behind(url: str) -> list[str]:
    """Say what somebody left in connections of the server's, all of which are looked into."""
    looking = [await asyncpg.connect(url, ssl=False, statement_cache_size=0, timeout=CONNECT_TIMEOUT) for _ in range(4)]
    transactions = [connection.transaction() for connection in looking]
    for transaction in transactions:  # all at once, so each is on another one
        await transaction.start()
    found = [f"{row[0]}: {row[1]}" for connection in looking for row in await connection.fetch(LEFT)]
    for transaction, connection in zip(transactions, looking, strict=True):
        await transaction.rollback()
        await connection.close()
    return found


async def test_nothing_stays_with_a_connection_of_the_server(app: FastAPI, url: str) -> None:
    alice, path = bearer("alice"), "/api/v1/tasks"
    imported = {"format": "taskwire-tasks", "version": 1, "tasks": [{"title": "x"}]}
    async with serving(app) as client:  # with its relay, sweeps and readers
        task = (await retried(client, "POST", path, headers=alice, json={"title": "x"})).json()["id"]
        for wanted, body, more in (
            (path, {"title": "x", "parent_id": task}, {"Idempotency-Key": "once"}),
            (f"{path}/import", imported, {"Idempotency-Key": "import"}),
            ("/api/v1/calendar-feeds", {"name": "x"}, {}),
            ("/api/v1/engagements", {"name": "x"}, {}),
            ("/api/v1/api-keys", {"name": "x", "scopes": ["tasks:read"]}, {}),
        ):
            answer = await retried(client, "POST", wanted, headers=alice | more, json=body)
            assert answer.status_code in {200, 201}, answer.text
    assert await left_behind(url) == []


async def test_many_clients_write_at_once_and_each_gets_its_own_answer(app: FastAPI) -> None:
    async def story(client: httpx2.AsyncClient, user: str) -> None:
        headers = bearer(user) | {"Idempotency-Key": f"story-of-{user}"}
        path = "/api/v1/tasks"
        new = {"title": user, "tags": ["x"]}
        made = [(await retried(client, "POST", path, headers=headers, json=new)).json()["id"] for _ in range(3)]
        assert len(set(made)) == 1
        task = f"{path}/{made[0]}"
        assert (await retried(client, "POST", f"{task}/complete", headers=bearer(user))).json()["completed"]
        listed = (await retried(client, "GET", f"{path}?tag=x", headers=bearer(user))).json()["items"]
        assert [item["title"] for item in listed] == [user]
        assert (await retried(client, "DELETE", task, headers=bearer(user))).status_code == 204

    async with serving(app) as client:
        await asyncio.gather(*(story(client, f"user{number}") for number in range(CLIENTS)))


async def retried(client: httpx2.AsyncClient, method: str, path: str, **more: object) -> httpx2.Response:
    """Ask as a client that was told to come back does."""
    found: list[httpx2.Response] = []

    async def answered() -> bool:
        found.append(await client.request(method, path, **more))  # type: ignore[arg-type]
        return found[-1].status_code < 500

    assert await within(PATIENCE, answered, 0.2), found[-1].text
    return found[-1]


async def test_one_relay_leads_at_a_time(url: str) -> None:
    database = open_database(through(url), application_name="test")
    async with database.session() as one, database.session() as another:
        assert await OutboxRepository(one).lead(patience=60)
        assert not await OutboxRepository(another).lead(patience=60)
        await another.rollback()
        await one.commit()
        assert await OutboxRepository(another).lead(patience=60)
    await database.close()


async def test_consumers_take_each_event_once(databases: DatabaseFactory, pgbouncer: ThrowawayPgBouncer) -> None:
    events = [make_task_event(task, version) for task in range(1, 4) for version in range(1, 4)]
    async with (
        databases.fresh("audit_worker", lambda url: upgrade("audit_worker", url)) as audit,
        databases.fresh("notifier", lambda url: upgrade("notifier", url)) as inbox,
    ):
        audit_settings = settings_for(AuditWorkerSettings, pgbouncer.through(audit), database_pooler="transaction")
        inbox_settings = settings_for(NotifierSettings, pgbouncer.through(inbox), database_pooler="transaction")
        for consumer in (create_audit_worker(audit_settings), create_notifier(inbox_settings)):
            async with serving(consumer) as client:
                for event in events * 2:

                    async def is_taken(client: httpx2.AsyncClient = client, event: object = event) -> bool:
                        return await deliver(client, event) == ["SUCCESS"]  # type: ignore[arg-type]

                    assert await within(PATIENCE, is_taken, 0.2)
        assert await count(audit, "audit_entries") == len(events)
        assert await count(inbox, "notifications") == len(events)


async def count(url: str, table: str) -> int:
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    finally:
        await connection.close()


@pytest.mark.usefixtures("pgbouncer")  # or it is skipped
async def test_a_pooler_without_a_free_connection_is_an_outage_that_passes(
    postgres_server: PostgresServer, database_url: str
) -> None:
    with ThrowawayPgBouncer(postgres_server, pool_size=1, query_wait_timeout=1) as narrow:
        database = open_database(through(narrow.through(database_url)), application_name="test")
        holder = await asyncpg.connect(narrow.through(database_url), ssl=False, statement_cache_size=0)
        holding = holder.transaction()
        await holding.start()
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                with pytest.raises(DatabaseUnavailableError):
                    await backend(database)
        await holding.rollback()
        await holder.close()

        async def works() -> bool:
            try:
                return bool(await backend(database))
            except DatabaseUnavailableError:
                return False

        assert await within(PATIENCE, works, 0.1)
        await database.close()


def test_a_migration_does_not_go_through_a_pooler(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        migration_url(through("postgresql://it:x@db.example/it"))
    assert "TASKWIRE_DATABASE_DIRECT_URL is not set" in capsys.readouterr().err
    direct = "postgresql://it:x@direct.example/it"
    assert migration_url(through("postgresql://it:x@db.example/it", database_direct_url=direct)) == direct
