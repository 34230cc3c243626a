import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest

from devstack.databases import accepts_connections, ensure_databases
from devstack.failures import ProvisionError
from devstack.postgres import SETTINGS, PostgresServer


async def test_a_service_gets_a_role_and_a_database_nobody_else_may_enter(postgres_server: PostgresServer) -> None:
    await ensure_databases(postgres_server, {"svc_one": "pa'ss", "svc_two": "word"})
    base = f"@127.0.0.1:{postgres_server.port}"

    connection = await asyncpg.connect(f"postgresql://svc_one:pa%27ss{base}/svc_one")
    await connection.execute("CREATE TABLE mine ()")
    await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(f"postgresql://svc_one:pa%27ss{base}/svc_two")


async def test_creating_databases_again_keeps_what_is_in_them(postgres_server: PostgresServer) -> None:
    await ensure_databases(postgres_server, {"svc_kept": "one"})
    dsn = f"@127.0.0.1:{postgres_server.port}/svc_kept"
    connection = await asyncpg.connect(f"postgresql://svc_kept:one{dsn}")
    await connection.execute("CREATE TABLE kept ()")
    await connection.close()

    await ensure_databases(postgres_server, {"svc_kept": "two"})

    connection = await asyncpg.connect(f"postgresql://svc_kept:two{dsn}")
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == 1
    await connection.close()


async def test_a_password_that_does_not_fit_the_data_is_explained(postgres_server: PostgresServer) -> None:
    stranger = PostgresServer(postgres_server.directory, postgres_server.port, "wrong", {})

    with pytest.raises(ProvisionError, match="created with other secrets.*make reset"):
        await accepts_connections(stranger)


async def test_a_server_that_is_not_there_accepts_nothing(tmp_path: Path) -> None:
    assert not await accepts_connections(PostgresServer(tmp_path, 1, "any", {}))


def test_data_of_another_version_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("15\n")

    with pytest.raises(ProvisionError, match="written by PostgreSQL 15, this is 18. Run make reset"):
        PostgresServer(tmp_path, 5432, "any", {}).prepare()


def test_a_failing_initdb_leaves_no_half_a_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = PostgresServer(tmp_path / "data", 5432, "x", {"fsync": "off"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "unexpected").write_text("in the way")

    with pytest.raises((ProvisionError, OSError)):
        server.prepare()

    assert (tmp_path / "data" / "unexpected").read_text() == "in the way"
    assert not (tmp_path / "initdb.password").exists()


def test_a_real_stack_keeps_postgresqls_promise_to_have_written_what_it_committed() -> None:
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & set(SETTINGS)


def zombie() -> subprocess.Popen[bytes]:
    """A process that has ended and that nobody has collected."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    return process


def test_a_lock_left_by_a_killed_server_does_not_keep_the_next_one_from_starting(tmp_path: Path) -> None:
    ended = zombie()
    (tmp_path / "postmaster.pid").write_text(f"{ended.pid}\n{tmp_path}\n")

    PostgresServer(tmp_path, 5432, "any", {}).command()

    assert not (tmp_path / "postmaster.pid").exists()
    ended.wait()


def test_a_lock_whose_process_id_belongs_to_a_stranger_by_now_is_removed(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{os.getppid()}\n{tmp_path}\n")

    PostgresServer(tmp_path, 5432, "any", {}).command()

    assert not (tmp_path / "postmaster.pid").exists()


def test_the_lock_of_a_running_server_is_respected(postgres_server: PostgresServer) -> None:
    postgres_server.command()

    assert (postgres_server.directory / "postmaster.pid").exists()


def test_what_a_killed_server_had_started_is_ended_before_the_next_one_starts(tmp_path: Path) -> None:
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=tmp_path)
    ended = zombie()
    (tmp_path / "postmaster.pid").write_text(f"{ended.pid}\n")

    PostgresServer(tmp_path, 5432, "any", {}).command()

    assert not psutil.pid_exists(orphan.pid)
    orphan.wait()
    ended.wait()
