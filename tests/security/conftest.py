"""People in front of the whole real stack, one who owns things and one who wants them; and task-api behind a proxy."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import httpx2
import pytest
import uuid_utils
from tests.e2e.coming_back import patient_client
from tests.e2e.conftest import Person
from tests.security.proxy import PROXY_KEYS

from chassis.migrations import upgrade
from chassis.testing import serving, settings_for
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

if TYPE_CHECKING:
    from devstack.running_stack import RunningStack

Enter = Callable[[str], Person]


@pytest.fixture
async def enter(stack: "RunningStack") -> AsyncIterator[Enter]:
    """Makes persons that nobody else in the test run is."""
    clients: list[httpx2.AsyncClient] = []

    def make(who: str) -> Person:
        name = f"{who}-{uuid_utils.uuid7()}"
        headers = {"Authorization": f"Bearer {stack.token(name)}"}
        clients.append(patient_client(headers))
        return Person(name, clients[-1], dict(stack.urls))

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def victim(enter: Enter) -> Person:
    """Somebody who owns things."""
    return enter("victim")


@pytest.fixture
def attacker(enter: Enter) -> Person:
    """Somebody else, with a good token of their own."""
    return enter("mallory")


@pytest.fixture
async def proxied_settings(databases: DatabaseFactory) -> AsyncIterator[TaskApiSettings]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        ports = {"DAPR_HTTP_PORT": 1, "DAPR_GRPC_PORT": 1}
        yield settings_for(TaskApiSettings, url, proxy_keys=PROXY_KEYS, proxy_roles="auditor", **ports)


@pytest.fixture
async def replicas(proxied_settings: TaskApiSettings) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Clients of two replicas on one database."""
    async with serving(create_app(proxied_settings)) as one, serving(create_app(proxied_settings)) as other:
        yield [one, other]


@pytest.fixture
def proxied(replicas: list[httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return replicas[0]
