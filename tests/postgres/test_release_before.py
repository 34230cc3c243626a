"""The release before runs on the schema of this one, as it does in a rolling update and after going back."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import httpx2
import pytest
from tests.e2e.coming_back import PATIENCE, patient_client

from chassis.migrations import upgrade
from chassis.testing import (
    APP_TOKEN,
    AUDIENCE,
    HS256_SECRET,
    ISSUER,
    bearer,
    deliver_until_taken,
    make_task_event,
    post_dead_letter,
)
from devstack.databases import CONNECT_TIMEOUT
from devstack.filelock import exclusive
from devstack.layout import HOST, REPOSITORY, Layout
from devstack.polling import within
from devstack.ports import free_port
from devstack.process import Command, log_tail, spawn
from devstack.throwaway import DatabaseFactory

IMPORTED: Final = {"format": "taskwire-tasks", "version": 1, "tasks": [{"title": "imported"}]}
RELEASE: Final = Path(__file__).with_name("release_before").read_text().split()[-1]


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, check=False)  # noqa: S607


@pytest.fixture(scope="module")
def release() -> Path:
    """Its code, with the packages that its own lock file names."""
    if git("cat-file", "-e", f"{RELEASE}^{{commit}}").returncode:
        pytest.skip(
            f"NOT TESTED with the release before: {RELEASE} is not in this clone. Get it: git fetch --unshallow"
        )
    commit = git("rev-parse", f"{RELEASE}^{{commit}}").stdout.decode().strip()
    place = Layout.from_environment(dict(os.environ)).cache / "releases"
    tree, done = place / commit, place / commit / "is-whole"
    with exclusive(place / "lock"):
        if not done.exists():
            tree.mkdir(exist_ok=True)
            archive = git("archive", commit).stdout
            subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)  # noqa: S607
            uv = [sys.executable, "-I", "tools/bootstrap/prepare.py", "uv", "sync", "--directory", str(tree)]
            options = ["--frozen", "--no-dev", "--quiet", "--python", sys.executable]
            subprocess.run([*uv, *options], cwd=REPOSITORY, check=True, timeout=600)
            done.touch()
    return tree


@asynccontextmanager
async def serving(release: Path, module: str, url: str, log: Path) -> AsyncIterator[httpx2.AsyncClient]:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "TASKWIRE_ENVIRONMENT": "development",
        "TASKWIRE_PORT": str(port),
        "TASKWIRE_DATABASE_URL": url,
        "TASKWIRE_AUTH_ISSUER": ISSUER,
        "TASKWIRE_AUTH_AUDIENCE": AUDIENCE,
        "TASKWIRE_AUTH_HS256_SECRET": HS256_SECRET,
        "DAPR_HTTP_PORT": "1",  # no sidecar: events wait in the outbox
        "DAPR_GRPC_PORT": "1",
        "DAPR_API_TOKEN": "d" * 32,
        "APP_API_TOKEN": APP_TOKEN,
    }
    process = await spawn(
        Command([str(release / ".venv/bin/python"), "-m", module, "serve"], environment, release), log
    )
    try:
        async with patient_client(base_url=f"http://{HOST}:{port}") as client:

            async def is_ready() -> bool:
                try:
                    return (await client.get("/health/ready")).status_code == 200
                except httpx2.TransportError:
                    return process.returncode is not None

            assert await within(PATIENCE, is_ready, 0.1), log_tail(log, 3)
            assert process.returncode is None, log_tail(log, 3)
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def are_written(url: str, tables: set[str]) -> bool:
    """Whether rows were put into all of these: what was not written was not tried on this schema."""
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)

    async def all_are() -> bool:  # a process counts what it did when it has time, or ends
        found = await connection.fetch("SELECT relname AS name FROM pg_stat_user_tables WHERE n_tup_ins > 0")
        return tables <= {row["name"] for row in found}

    try:
        return await within(PATIENCE, all_are, 0.1)
    finally:
        await connection.close()


async def test_its_api_keeps_working_on_this_schema(databases: DatabaseFactory, release: Path, tmp_path: Path) -> None:
    alice, path = bearer("alice"), "/api/v1/tasks"
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        async with serving(release, "task_api", url, tmp_path / "log") as client:
            again = alice | {"Idempotency-Key": "once"}
            made = await client.post(path, json={"title": "milk", "tags": ["x"]}, headers=again)
            assert (await client.post(path, json={"title": "milk", "tags": ["x"]}, headers=again)).json() == made.json()
            task = f"{path}/{made.json()['id']}"
            for answer, wanted in (
                (await client.patch(task, json={"priority": "high"}, headers=alice), 200),
                (await client.post(f"{task}/complete", headers=alice), 200),
                (await client.post(f"{task}/comments", json={"body": "well"}, headers=alice), 201),
                (await client.get(f"{path}?q=mil&tag=x", headers=alice), 200),
                (await client.get("/api/v1/completions", headers=alice), 200),
                (await client.get(f"{path}/changes", headers=alice), 200),
                (await client.post("/api/v1/calendar-feeds", json={"name": "x"}, headers=alice), 201),
                (await client.post(f"{path}/import", json=IMPORTED, headers=again), 200),
                (await client.delete(task, headers=alice), 204),
                (await client.get(task, headers=alice), 404),
            ):
                assert answer.status_code == wanted, answer.text
                if wanted == 200 and "items" in answer.text:
                    assert "milk" in answer.text
        tables = {"tasks", "outbox", "idempotency_keys", "completions", "comments", "calendar_feeds", "import_rows"}
        assert await are_written(url, tables), "each that the release has"
        connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
        events = await connection.fetch(
            "SELECT type FROM outbox WHERE aggregate_id = $1 ORDER BY aggregate_version", made.json()["id"]
        )
        await connection.close()
    kinds = ("created", "updated", "completed", "deleted")
    assert [row["type"].split(".")[-1] for row in events] == list(kinds), "an event of each change, for the relay"


@pytest.mark.parametrize("module", ["audit_worker", "notifier"])
async def test_its_consumers_take_events_on_this_schema(
    databases: DatabaseFactory, release: Path, tmp_path: Path, module: str
) -> None:
    kept = {"audit_worker": "audit_entries", "notifier": "notifications"}[module]
    async with databases.fresh(module, lambda url: upgrade(module, url)) as url:
        async with serving(release, module, url, tmp_path / "log") as client:
            first, third = make_task_event(1), make_task_event(1, 3)
            await deliver_until_taken(client, first, third)  # and a gap between them
            await deliver_until_taken(client, first)

            async def is_stored() -> bool:
                return bool((await post_dead_letter(client, b"no event")).json() == {"status": "SUCCESS"})

            assert await within(PATIENCE, is_stored, 0.2)
        tables = {kept, "inbox_events", "inbox_subjects", "inbox_gaps", "dead_letters"}
        assert await are_written(url, tables), "each that the release has"
        connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
        assert await connection.fetchval(f"SELECT count(*) FROM {kept}") == 2, "each once"
        await connection.close()
