"""What a key of each single scope may do, for every operation of task-api: exactly what is written in `test_guards`."""

import re
from collections.abc import AsyncIterator
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI
from tests.security.test_guards import GUARDED

from chassis.identity import Permission, operations_of
from chassis.identity.permissions import IN_A_KEY, NEVER_IN_A_KEY
from chassis.migrations import upgrade
from chassis.paths import API_PREFIX
from chassis.testing import bearer, serving, settings_for
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

WANTED: Final = {operation: permission for permission, of_it in GUARDED["task-api"].items() for operation in of_it}


@pytest.fixture
async def app(databases: DatabaseFactory) -> AsyncIterator[FastAPI]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        yield create_app(settings_for(TaskApiSettings, url, DAPR_HTTP_PORT=1, DAPR_GRPC_PORT=1))


async def allowed(client: httpx2.AsyncClient, app: FastAPI, headers: dict[str, str]) -> set[str]:
    """Try every operation that has a guard, none of them with anything that it could do."""
    found = set()
    for operation in operations_of(app.routes):
        if operation.operation_id in WANTED:
            path = API_PREFIX + re.sub(r"{\w+}", "999999", operation.path).removeprefix(API_PREFIX)
            # A cursor that is none keeps the stream from beginning.
            query = {"cursor": "none"} if operation.operation_id == "stream_changes" else {}
            answer = await client.request(operation.methods[0], path, params=query, json={}, headers=headers)
            assert answer.status_code < 500, answer.text
            assert answer.status_code != 401, answer.text
            if answer.status_code == 403 and answer.json()["code"] == "permission_denied":
                assert WANTED[operation.operation_id].value in answer.json()["detail"], "names what it needs"
            else:
                found.add(operation.operation_id)
    return found


async def test_a_key_of_a_single_scope_may_do_what_the_scope_is_for_and_nothing_else(app: FastAPI) -> None:
    async with serving(app) as client:
        assert await allowed(client, app, bearer("alice")) == WANTED.keys(), "a token may do everything"
        for scope in sorted(IN_A_KEY):
            new = {"name": scope, "scopes": [scope]}
            key = (await client.post("/api/v1/api-keys", json=new, headers=bearer("alice", "admin"))).json()
            may = await allowed(client, app, {"Authorization": f"Bearer {key['key']}"})
            assert may == GUARDED["task-api"].get(Permission(scope), set()), scope


async def test_a_key_of_all_scopes_still_manages_no_keys_and_ends_no_account(app: FastAPI) -> None:
    async with serving(app) as client:
        new = {"name": "all", "scopes": sorted(IN_A_KEY)}
        key = (await client.post("/api/v1/api-keys", json=new, headers=bearer("alice"))).json()
        may = await allowed(client, app, {"Authorization": f"Bearer {key['key']}"})
    never = [GUARDED["task-api"][permission] for permission in NEVER_IN_A_KEY]
    assert may == WANTED.keys() - set().union(*never)
