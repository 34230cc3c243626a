"""Every caller at every route of every service, on the real applications and real databases: in, or why not.

What each route needs is written by hand in `test_guards`, what each caller has is written by hand here. Who may not in
is answered from the headers: nothing of a body is read.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI
from tests.security.our_services import consumer_beside, task_api_beside
from tests.security.test_guards import FOR_OUR_SERVICES, FOR_THE_SIDECAR, GUARDED, OPEN, OPEN_BY_TOKEN

from chassis.identity import operations_of
from chassis.identity.guards import GuardedOperation
from chassis.paths import API_PREFIX
from chassis.testing import bearer
from devstack.throwaway import DatabaseFactory

IN, NO_CREDENTIAL, NO_PERMISSION, FOR_MACHINES = "in", "401 unauthenticated", "403 of a guard", "403 forbidden"
OF_A_KEY: Final = (
    "tasks:read", "tasks:write", "calendar-feeds:read", "calendar-feeds:write", "engagements:read", "engagements:write",
    "profile:read", "profile:write", "notifications:read", "notifications:write", "audit:read",
)  # fmt: skip
USER: Final = {*OF_A_KEY, "api-keys:manage", "account:erase"}
AUDITOR: Final = USER | {"audit:read-all", "gaps:read"}
ADMIN: Final = AUDITOR | {"dead-letters:read", "dead-letters:write"}
CALLERS: Final[dict[str, set[str] | None]] = {
    "nobody": None,
    "user": USER,
    "somebody with a role that there is not": USER,
    "auditor": AUDITOR,
    "admin": ADMIN,
    "auditor and admin": ADMIN,
    **{f"an admin's key for {scope}": {scope} for scope in OF_A_KEY},
    "an admin's key for everything": set(OF_A_KEY),
}
ROLES: Final = {
    "user": (),
    "somebody with a role that there is not": ("root",),
    "auditor": ("auditor",),
    "admin": ("admin",),
    "auditor and admin": ("auditor", "admin"),
}
Headers = dict[str, str]


@dataclass(frozen=True)
class House:
    """The three services as they are deployed, but for their sockets; and the credentials of all callers."""

    services: dict[str, tuple[FastAPI, httpx2.AsyncClient]]
    credentials: dict[str, Headers]


@pytest.fixture(scope="module")
async def house(databases: DatabaseFactory) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(task_api_beside(databases))
        services = {"task-api": (tasks.app, tasks.client)}
        for name in ("audit-worker", "notifier"):
            there = await stack.enter_async_context(consumer_beside(name, databases, tasks.address))
            services[name] = there.app, there.client
        yield House(services, await credentials(services["task-api"][1]))


async def credentials(client: httpx2.AsyncClient) -> dict[str, Headers]:
    found: dict[str, Headers] = {"nobody": {}}
    for caller, has in CALLERS.items():
        if caller in ROLES:
            found[caller] = bearer("alice", *ROLES[caller])
        elif has is not None:
            new = {"name": "x", "scopes": sorted(has)}
            made = await client.post(f"{API_PREFIX}/api-keys", json=new, headers=bearer("alice", "admin"))
            assert made.status_code == 201, made.text
            found[caller] = {"Authorization": f"Bearer {made.json()['key']}"}
    return found


class Body:
    """The body of a request, which knows whether anybody asked for it."""

    def __init__(self) -> None:
        self.was_read = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.was_read = True
        yield b"{}"


async def ask(client: httpx2.AsyncClient, operation: GuardedOperation, headers: Headers) -> tuple[str, bool]:
    """Call an operation about nothing that there is; gives what came of it, and whether the body was read."""
    body, path = Body(), re.sub(r"{\w+}", "999999", operation.path)
    path = API_PREFIX + path.removeprefix(API_PREFIX) if operation.guards else path
    # A cursor that is none keeps the stream from beginning.
    query = {"cursor": "none"} if operation.operation_id == "stream_changes" else {}
    headers = headers | {"Content-Type": "application/json"}
    answer = await client.request(operation.methods[0], path, params=query, content=body, headers=headers)
    assert answer.status_code < 500, (operation, answer.text)
    return outcome_of(answer, operation), body.was_read


def outcome_of(answer: httpx2.Response, operation: GuardedOperation) -> str:
    if answer.status_code == 403 and answer.json()["detail"].startswith("This needs the "):
        assert operation.guards[0].permission.value in answer.json()["detail"], "names what is missing"
        return NO_PERMISSION
    said = f"{answer.status_code} {answer.json()['code']}" if answer.is_error else ""
    return said if said in {NO_CREDENTIAL, FOR_MACHINES} else IN


@pytest.mark.parametrize("caller", CALLERS)
async def test_each_caller_gets_in_where_the_tables_say_and_nowhere_else(house: House, caller: str) -> None:
    has, headers = CALLERS[caller], house.credentials[caller]
    for name, (app, client) in house.services.items():
        needs = {operation: permission.value for permission, of_it in GUARDED[name].items() for operation in of_it}
        guarded = [operation for operation in operations_of(app.routes) if operation.guards]
        assert {operation.operation_id for operation in guarded} == needs.keys()
        refused = NO_CREDENTIAL if has is None else NO_PERMISSION
        wanted = {operation: IN if needs[operation] in (has or ()) else refused for operation in needs}
        outcome = {operation.operation_id: await ask(client, operation, headers) for operation in guarded}
        assert {operation: what for operation, (what, _) in outcome.items()} == wanted
        read_in_vain = [operation for operation, (what, was_read) in outcome.items() if what != IN and was_read]
        assert not read_in_vain, "the guard is to be asked before the body is read: route_class=GuardedRoute"


@pytest.mark.parametrize("caller", ["nobody", "user", "auditor and admin", "an admin's key for everything"])
async def test_what_has_no_guard_is_the_same_to_everybody(house: House, caller: str) -> None:
    """What anybody may read anybody may, and no credential of a person opens what is for machines."""
    for app, client in house.services.values():
        for operation in operations_of(app.routes):
            if operation.guards or not operation.methods:
                continue
            what, _ = await ask(client, operation, house.credentials[caller])
            if operation.operation_id in OPEN | OPEN_BY_TOKEN | {"_get_subscriptions"}:
                assert what == IN, operation
            else:
                assert operation.operation_id in FOR_OUR_SERVICES | FOR_THE_SIDECAR
                assert what in {NO_CREDENTIAL, FOR_MACHINES}, operation
