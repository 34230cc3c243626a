"""What a pod does before its containers start: `python -m task_api wait-for-schema`, on the real PostgreSQL."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from chassis.migrations import upgrade
from chassis.testing import NOBODYS_PORT, PATIENCE
from devstack.polling import within
from devstack.throwaway import DatabaseFactory


def open_for_output(log: Path) -> BinaryIO:
    return log.open("wb")


@asynccontextmanager
async def waiting(url: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = os.environ | {
        "TASKWIRE_ENVIRONMENT": "development",
        "TASKWIRE_PORT": "1",
        "TASKWIRE_DATABASE_URL": url,
        "TASKWIRE_AUTH_ISSUER": "issuer",
        "TASKWIRE_AUTH_AUDIENCE": "taskwire",
        "TASKWIRE_AUTH_HS256_SECRET": secrets.token_urlsafe(48),
        "DAPR_API_TOKEN": secrets.token_urlsafe(24),
        "APP_API_TOKEN": secrets.token_urlsafe(24),
    }
    with open_for_output(log) as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "task_api", "wait-for-schema", env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def text_of(log: Path) -> str:
    return log.read_text(encoding="utf-8")


async def said(log: Path, text: str) -> bool:
    async def is_there() -> bool:
        return text in text_of(log)

    return await within(PATIENCE, is_there, 0.1)


async def test_it_ends_well_once_somebody_else_has_migrated_to_what_it_needs(
    databases: DatabaseFactory, tmp_path: Path
) -> None:
    async with databases.empty("task_api") as url:
        await asyncio.to_thread(upgrade, "task_api", url, "0001")
        async with waiting(url, log := tmp_path / "log") as process:
            assert await said(log, "schema is behind revision")
            assert process.returncode is None

            await asyncio.to_thread(upgrade, "task_api", url)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


async def test_it_waits_for_a_database_that_is_not_there_yet_and_says_so_without_its_password(tmp_path: Path) -> None:
    password = secrets.token_urlsafe(24)
    url = f"postgresql://task_api:{password}@127.0.0.1:{NOBODYS_PORT}/task_api"
    async with waiting(url, log := tmp_path / "log") as process:
        assert await said(log, "waiting for the schema")
        assert process.returncode is None
        assert password not in text_of(log)
