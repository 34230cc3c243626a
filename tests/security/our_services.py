"""Our services as they are deployed but for their sockets: each on a database of its own, consumers beside task-api."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx2
from fastapi import FastAPI

from audit_worker.app import create_app as create_audit_worker
from audit_worker.settings import AuditWorkerSettings
from chassis.migrations import upgrade
from chassis.paths import INTROSPECTION_PATH
from chassis.testing import listening, serving, settings_for
from devstack.throwaway import DatabaseFactory
from notifier.app import create_app as create_notifier
from notifier.settings import NotifierSettings
from task_api.app import create_app as create_task_api
from task_api.settings import TaskApiSettings

SECRET: Final = "what our services demand of each other"


@dataclass(frozen=True)
class Served:
    """A service that is there for the block, and who asks it."""

    app: FastAPI
    client: httpx2.AsyncClient


@dataclass(frozen=True)
class ServedTaskApi(Served):
    """task-api, which consumers ask at an address."""

    address: str


@asynccontextmanager
async def task_api_beside(databases: DatabaseFactory) -> AsyncIterator[ServedTaskApi]:
    """Serve task-api for the block, for consumers that ask it."""
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        nobody = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
        app = create_task_api(settings_for(TaskApiSettings, url, introspection_secret=SECRET, **nobody))
        async with serving(app) as client, listening(app) as address:
            yield ServedTaskApi(app, client, address)


@asynccontextmanager
async def consumer_beside(
    name: str, databases: DatabaseFactory, address: str, secret: str = SECRET
) -> AsyncIterator[Served]:
    """Serve audit-worker or notifier for the block; it asks task-api at this address."""
    package = name.replace("-", "_")
    asking = {"introspection_url": address + INTROSPECTION_PATH, "introspection_secret": secret}
    async with databases.fresh(package, lambda url: upgrade(package, url)) as url:
        app = (
            create_audit_worker(settings_for(AuditWorkerSettings, url, **asking))
            if name == "audit-worker"
            else create_notifier(settings_for(NotifierSettings, url, **asking))
        )
        async with serving(app) as client:
            yield Served(app, client)
