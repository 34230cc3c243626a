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
from tests.postgres.stories import KEPT, story_of_a_task, story_of_events

from chassis.migrations import upgrade
from chassis.testing_environment import environment_for
from devstack.databases import CONNECT_TIMEOUT
from devstack.filelock import exclusive
from devstack.layout import REPOSITORY, Layout
from devstack.polling import within
from devstack.service_process import running_service
from devstack.throwaway import DatabaseFactory

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
    python = str(release / ".venv/bin/python")
    async with (
        running_service(module, environment_for(url), log, python=python, directory=release) as service,
        patient_client(base_url=service.url) as client,
    ):
        yield client


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
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        async with serving(release, "task_api", url, tmp_path / "log") as client:
            made = await story_of_a_task(client)
        tables = {"tasks", "outbox", "idempotency_keys", "completions", "comments", "calendar_feeds", "import_rows"}
        assert await are_written(url, tables), "each that the release has"
        connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
        events = await connection.fetch(
            "SELECT type FROM outbox WHERE aggregate_id = $1 ORDER BY aggregate_version", made
        )
        await connection.close()
    kinds = ("created", "updated", "completed", "deleted")
    assert [row["type"].split(".")[-1] for row in events] == list(kinds), "an event of each change, for the relay"


@pytest.mark.parametrize("module", KEPT)
async def test_its_consumers_take_events_on_this_schema(
    databases: DatabaseFactory, release: Path, tmp_path: Path, module: str
) -> None:
    kept = KEPT[module]
    async with databases.fresh(module, lambda url: upgrade(module, url)) as url:
        async with serving(release, module, url, tmp_path / "log") as client:
            await story_of_events(client)
        tables = {kept, "inbox_events", "inbox_subjects", "inbox_gaps", "dead_letters"}
        assert await are_written(url, tables), "each that the release has"
        connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_TIMEOUT)
        assert await connection.fetchval(f"SELECT count(*) FROM {kept}") == 2, "each once"
        await connection.close()
