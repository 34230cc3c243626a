"""TLS to a real PostgreSQL with certificates made here: who is not the server asked for gets no password of ours."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.postgres.tls_servers import Authority, installed_postgres, terminating_tls, tls_postgres

from chassis import database_connection
from chassis.database import DatabaseUnavailableError, open_database
from chassis.database_connection import DatabaseRefusedError, refuse_another_server
from chassis.settings import load_settings
from chassis.testing import settings_for
from chassis.testing_environment import environment_for
from devstack.postgres import PostgresServer
from task_api.settings import TaskApiSettings

NAME = "localhost"
"""What the certificate says; the server listens at 127.0.0.1, which it does not say."""


@pytest.fixture(autouse=True)
def _a_slow_server_is_none_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_connection, "_PROBE_TIMEOUT", 90.0)


@dataclass(frozen=True)
class TlsServer:
    url: str
    ca: Path
    stranger: Path

    def ask(self, query: str, host: str = NAME) -> str:
        return self.url.replace("@127.0.0.1:", f"@{host}:") + (query and f"?{query}")


@pytest.fixture(scope="module", params=["a PostgreSQL with TLS", "a proxy with TLS before one"])
async def server(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TlsServer]:
    """Takes TLS and nothing else, as a provider's does."""
    ours, directory = Authority.new("Ours"), tmp_path_factory.mktemp("tls")
    directory.chmod(0o755)
    ca, stranger = ours.write(directory / "ca.crt"), Authority.new("Stranger").write(directory / "stranger.crt")
    if request.param == "a PostgreSQL with TLS":
        if (programs := installed_postgres()) is None:
            pytest.skip(
                "NOT TESTED with a PostgreSQL that has TLS, which the wheel's has not: apt-get install postgresql"
            )
        with tls_postgres(programs, directory, ours, NAME) as url:
            yield TlsServer(url, ca, stranger)
    else:
        files = ours.issue(NAME, directory)
        async with terminating_tls(postgres_server.dsn(), postgres_server.port, *files) as url:
            yield TlsServer(url, ca, stranger)


async def use(url: str) -> None:
    """Ask something; the servers take nothing that has no TLS."""
    database = open_database(settings_for(TaskApiSettings, url), application_name="test")
    try:
        async with database.session() as session:
            assert await (await session.connection()).scalar(text("SELECT 1")) == 1
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("query", "host"),
    [
        ("sslmode=verify-full&sslrootcert={ca}", NAME),
        ("sslmode=verify-full&sslrootcert={ca}&channel_binding=prefer", NAME),
        ("sslmode=verify-ca&sslrootcert={ca}", "127.0.0.1"),
        ("sslmode=require", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
async def test_a_server_that_is_what_was_asked_for_is_used_with_tls(server: TlsServer, query: str, host: str) -> None:
    await use(server.ask(query.format(ca=server.ca), host))


@pytest.mark.parametrize(
    ("query", "host"),
    [
        ("sslmode=verify-full&sslrootcert={ca}", "127.0.0.1"),
        ("sslmode=verify-full&sslrootcert={stranger}", NAME),
        ("sslmode=verify-ca&sslrootcert={stranger}", NAME),
        ("sslmode=verify-full&sslrootcert=system", NAME),
        ("sslmode=verify-full", NAME),
    ],
)
async def test_any_other_server_is_not_used(server: TlsServer, query: str, host: str) -> None:
    url = server.ask(query.format(ca=server.ca, stranger=server.stranger), host)
    with pytest.raises(DatabaseUnavailableError):
        await use(url)


@pytest.mark.parametrize(
    ("query", "host", "words"),
    [
        ("sslmode=verify-full&sslrootcert={ca}", "127.0.0.1", "certificate is not valid for '127.0.0.1'"),
        ("sslmode=verify-full&sslrootcert={stranger}", NAME, "unable to get local issuer certificate"),
    ],
)
async def test_what_is_wrong_with_it_is_said_at_once(server: TlsServer, query: str, host: str, words: str) -> None:
    with pytest.raises(DatabaseRefusedError, match=re.escape(words)):
        await refuse_another_server(server.ask(query.format(ca=server.ca, stranger=server.stranger), host))
    await refuse_another_server(server.ask(f"sslmode=verify-full&sslrootcert={server.ca}"))


async def test_a_server_without_tls_is_refused_where_tls_is_demanded(postgres_server: PostgresServer) -> None:
    with pytest.raises(DatabaseRefusedError, match="has no TLS"):
        await refuse_another_server(f"{postgres_server.dsn()}?sslmode=require")


async def test_a_server_that_is_away_is_waited_for() -> None:
    await refuse_another_server("postgresql://nobody:nothing@127.0.0.1:1/nowhere?sslmode=verify-full")


@pytest.mark.parametrize("server", ["a proxy with TLS before one"], indirect=True)
async def test_a_service_ends_at_its_start_when_the_server_is_another_one(server: TlsServer) -> None:
    url = server.ask(f"sslmode=verify-full&sslrootcert={server.stranger}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "task_api", "serve"), env=environment_for(url), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(90):
        said = (await process.communicate())[1].decode()
    assert (process.returncode, "Traceback" in said, url in said) == (2, False, False)
    assert "cannot start: the database of TASKWIRE_DATABASE_URL is refused: the certificate of the server" in said


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.crt", "sslrootcert that cannot be used (/nowhere/ca.crt"),
        ("sslmode=verify-full&sslrootcert=/etc/hostname", "sslrootcert that cannot be used"),
        ("sslmode=verified", "sslmode that is none of disable"),
        ("sslmode=verify-ca", "has sslmode=verify-ca and no sslrootcert of your own"),
        ("sslmode=verify-ca&sslrootcert=system", "has sslmode=verify-ca and no sslrootcert of your own"),
        ("sslmode=require&sslrootcert=system", "which sslmode=require would not look at"),
        ("sslmode=require&channel_binding=require", "asks for channel_binding=require"),
        ("options=endpoint%3Dhunter2", "has options behind"),
    ],
)
def test_a_connection_string_that_cannot_be_kept_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], query: str, words: str
) -> None:
    monkeypatch.setenv("TASKWIRE_DATABASE_URL", f"postgresql://it:hunter2@db.example/it?{query}")
    with pytest.raises(SystemExit):
        load_settings(TaskApiSettings)
    said = capsys.readouterr().err
    assert f"TASKWIRE_DATABASE_URL {words}" in said or words in said
    assert "hunter2" not in said
