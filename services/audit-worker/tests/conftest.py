"""A fresh, migrated database for each test, and the service running on it."""

from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from chassis.migrations import upgrade
from chassis.testing import serving, settings_for, take_all_the_time_there_is
from devstack.throwaway import DatabaseFactory


def migrate(database_url: str) -> None:
    upgrade("audit_worker", database_url)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No delivery, erasure or check ends because the machine is slow."""
    take_all_the_time_there_is(monkeypatch)


@pytest.fixture
async def database_url(databases: DatabaseFactory) -> AsyncIterator[str]:
    async with databases.fresh("audit_worker", migrate) as url:
        yield url


@pytest.fixture
def app(database_url: str) -> FastAPI:
    return create_app(settings_for(AuditWorkerSettings, database_url))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(app) as client:
        yield client


@pytest.fixture
async def database(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection beside the service's own, to look at what it wrote."""
    connection = await asyncpg.connect(database_url, ssl=False)
    try:
        yield connection
    finally:
        await connection.close()
