"""Each role in an engagement and each operation that reaches into one, on the real service and a real database.

The table is written by hand on purpose: it is what `engagements/roles.py` and every statement come to. An operation
that is new fails until a person says what each role is answered.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from chassis.database import Database
from chassis.migrations import upgrade
from chassis.openapi import operations
from chassis.testing import bearer, listening, settings_for
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app
from task_api.settings import TaskApiSettings

API: Final = "/api/v1"
CALLERS: Final = ("nobody", "stranger", "viewer", "editor", "owner")
"""In this order, from who may least: what is refused changes nothing for who comes next."""
NEW: Final = {"title": "x", "engagement_id": "{engagement}"}
WHOLE: Final[dict[str, object]] = {
    "title": "y", "description": None, "priority": "low", "due_at": None, "completed": False, "tags": [],
    "parent_id": None, "recurrence": None,
}  # fmt: skip
FILE: Final = {"format": "taskwire-tasks", "version": 1, "tasks": [{"title": "x"}]}

# Nobody has sent no credential; a stranger has a good one, and is in other engagements. Whoever is asked about is not
# the caller: a task and a comment of the founder's, another member. `{mine}` is a comment of the caller's own.
MATRIX: Final = """
operation              request                                                     nobody stranger viewer editor owner
list_tasks             GET    /tasks?engagement_id={engagement}                       401      403    200    200   200
list_changes           GET    /tasks/changes?engagement_id={engagement}               401      403    200    200   200
list_changes           GET    /tasks/changes?engagement_id={engagement}&cursor={at}   401      422    422    422   422
stream_changes         GET    /tasks/stream?engagement_id={engagement}                401      403    200    200   200
export_tasks           GET    /tasks/export?engagement_id={engagement}                401      403    200    200   200
list_completions       GET    /completions?engagement_id={engagement}                 401      403    200    200   200
list_task_completions  GET    /tasks/{task}/completions                               401      403    200    200   200
get_task               GET    /tasks/{task}                                           401      403    200    200   200
create_task            POST   /tasks                                                  401      403    403    201   201
create_quick_add       POST   /tasks/quick-add/create                                 401      403    403    201   201
import_tasks           POST   /tasks/import?engagement_id={engagement}                401      403    403    200   200
replace_task           PUT    /tasks/{task}                                           401      403    403    200   200
patch_task             PATCH  /tasks/{task}                                           401      403    403    200   200
toggle_task            POST   /tasks/{task}/toggle                                    401      403    403    200   200
complete_task          POST   /tasks/{task}/complete                                  401      403    403    200   200
reopen_task            POST   /tasks/{task}/reopen                                    401      403    403    200   200
move_task              POST   /tasks/{task}/move                                      401      403    403    200   200
delete_task            DELETE /tasks/{task}                                           401      403    403    204   204
restore_task           POST   /tasks/{deleted}/restore                                401      403    403    200   200
bulk_tasks: create     POST   /tasks/bulk                                             401      403    403    201   201
bulk_tasks: update     POST   /tasks/bulk                                             401      403    403    200   200
bulk_tasks: complete   POST   /tasks/bulk                                             401      403    403    200   200
bulk_tasks: delete     POST   /tasks/bulk                                             401      403    403    204   204
bulk_tasks: restore    POST   /tasks/bulk                                             401      403    403    200   200
list_comments          GET    /tasks/{task}/comments                                  401      403    200    200   200
create_comment         POST   /tasks/{task}/comments                                  401      403    403    201   201
get_comment            GET    /comments/{comment}                                     401      403    200    200   200
edit_comment           PATCH  /comments/{comment}                                     401      403    403    403   403
edit_comment           PATCH  /comments/{mine}                                        401      403    403    200   200
delete_comment         DELETE /comments/{comment}                                     401      403    403    403   204
delete_comment         DELETE /comments/{mine}                                        401      403    403    204   204
get_engagement         GET    /engagements/{engagement}                               401      403    200    200   200
list_members           GET    /engagements/{engagement}/members                       401      403    200    200   200
rename_engagement      PATCH  /engagements/{engagement}                               401      403    403    403   200
change_role            PATCH  /engagements/{engagement}/members/{other}               401      403    403    403   200
change_role            PATCH  /engagements/{engagement}/members/{caller}              401      403    403    403   200
remove_member          DELETE /engagements/{engagement}/members/{other}               401      403    403    403   204
remove_member          DELETE /engagements/{engagement}/members/{caller}              401      403    204    204   204
leave_engagement       POST   /engagements/{engagement}/leave                         401      403    204    204   204
transfer_engagement    POST   /engagements/{engagement}/transfer                      401      403    403    403   200
create_invitation      POST   /engagements/{engagement}/invitations                   401      403    403    403   201
list_invitations       GET    /engagements/{engagement}/invitations                   401      403    403    403   200
revoke_invitation      DELETE /engagements/{engagement}/invitations/{invitation}      401      403    403    403   204
delete_engagement      DELETE /engagements/{engagement}                               401      403    403    403   204
accept_invitation      POST   /engagements/invitations/accept                         401      404    404    404   404
"""
BODIES: Final[dict[str, object]] = {
    "create_task": NEW,
    "create_quick_add": {"text": "milk", "engagement_id": "{engagement}"},
    "import_tasks": FILE,
    "replace_task": WHOLE,
    "patch_task": {"title": "y"},
    "move_task": {"after": "{second}"},
    "bulk_tasks: create": {"operations": [{"op": "create", "task": NEW}]},
    "bulk_tasks: update": {"operations": [{"op": "update", "id": "{task}", "changes": {"title": "y"}}]},
    "bulk_tasks: complete": {"operations": [{"op": "complete", "id": "{task}"}]},
    "bulk_tasks: delete": {"operations": [{"op": "delete", "id": "{task}"}]},
    "bulk_tasks: restore": {"operations": [{"op": "restore", "id": "{deleted}"}]},
    "create_comment": {"body": "z"},
    "edit_comment": {"body": "z"},
    "rename_engagement": {"name": "Bath"},
    "change_role": {"role": "viewer"},
    "transfer_engagement": {"user_id": "{other}"},
    "create_invitation": {"role": "viewer"},
    "accept_invitation": {"token": "{used}"},
}
ELSEWHERE: Final = {
    "create_engagement": "makes one of the caller's own",
    "list_engagements": "names only those that the caller is in (test_engagements.py)",
    "read_quick_add": "reads a line and nothing else",
    "list_calendar_feeds": "feeds are of personal tasks only",
    "create_calendar_feed": "likewise",
    "rotate_calendar_feed": "likewise",
    "revoke_calendar_feed": "likewise",
    "read_calendar_feed": "likewise",
    "list_api_keys": "keys are of one user and reach what they reach (test_global_roles.py)",
    "create_api_key": "likewise",
    "get_api_key": "likewise",
    "change_api_key": "likewise",
    "rotate_api_key": "likewise",
    "revoke_api_key": "likewise",
    "get_profile": "shows the caller alone",
    "patch_profile": "changes the caller alone",
    "export_account": "holds what the caller owns, and no engagement does (test_users.py)",
    "erase_account": "takes the caller out of engagements (test_engagements.py, test_erasure.py)",
    "get_erasure": "shows the caller alone",
    "live": "says nothing about anyone",
    "ready": "likewise",
}


@dataclass(frozen=True)
class Row:
    """An operation, and what each caller is answered."""

    operation: str
    method: str
    path: str
    expected: dict[str, int]


def rows() -> list[Row]:
    found = []
    for line in MATRIX.strip().splitlines()[1:]:
        operation, method, path, *statuses = re.split(r" {2,}| (?=/|GET|POST|PUT|PATCH|DELETE)", line)
        expected = dict(zip(CALLERS, map(int, " ".join(statuses).split()), strict=True))
        found.append(Row(operation.strip(), method.strip(), path.strip(), expected))
    return found


@dataclass(frozen=True)
class Service:
    """The service as it is reached over sockets, and its database."""

    app: FastAPI
    client: httpx2.AsyncClient
    database: Database


@pytest.fixture(scope="module")
async def service(databases: DatabaseFactory) -> AsyncIterator[Service]:
    async with databases.fresh("task_api", lambda url: upgrade("task_api", url)) as url:
        patient = dict.fromkeys(("database_lock_timeout", "database_statement_timeout", "database_pool_timeout"), 90)
        app = create_app(settings_for(TaskApiSettings, url, DAPR_HTTP_PORT=1, DAPR_GRPC_PORT=1, **patient))
        async with (
            app.router.lifespan_context(app),
            listening(app) as address,
            httpx2.AsyncClient(base_url=address + API, timeout=90) as client,
        ):
            yield Service(app, client, app.state.database)


def test_every_operation_is_in_the_table_or_reaches_into_no_engagement(service: Service) -> None:
    there = {operation["operationId"] for _, _, operation in operations(service.app.openapi())}
    assert there == {row.operation.partition(":")[0] for row in rows()} | ELSEWHERE.keys()


def filled(value: object, names: dict[str, Any]) -> Any:  # noqa: ANN401
    match value:
        case dict():
            return {name: filled(part, names) for name, part in value.items()}
        case list():
            return [filled(part, names) for part in value]
        case str() if value.strip("{}") in names:
            return names[value.strip("{}")]
        case _:
            return value


async def made(service: Service, path: str, body: object, by: str) -> Any:  # noqa: ANN401
    answer = await service.client.post(path, json=body, headers=bearer(by))
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


async def let_in(service: Service, engagement: int, name: str, role: str) -> str:
    token: str = (await made(service, f"/engagements/{engagement}/invitations", {"role": role}, "founder"))["token"]
    await made(service, "/engagements/invitations/accept", {"token": token}, name)
    return token


async def an_engagement(service: Service) -> dict[str, Any]:
    """Make one with a founder, another member, and one of each role; the stranger has one too."""
    engagement = (await made(service, "/engagements", {"name": "x"}, "founder"))["id"]
    await made(service, "/engagements", {"name": "x"}, "stranger")
    used = await let_in(service, engagement, "other", "editor")
    for role in ("viewer", "editor", "owner"):
        await let_in(service, engagement, role, role)
    return {"engagement": engagement, "used": used, "other": "other"}


async def things_in(service: Service, names: dict[str, Any], caller: str, needed: set[str]) -> dict[str, Any]:
    """Make what a caller's request is about."""
    found = names | {"caller": caller, "at": "x"}
    if needed & {"comment", "mine"}:
        needed = needed | {"task"}
    for name in needed & {"task", "second", "deleted"}:
        found[name] = (await made(service, "/tasks", filled(NEW, names), "founder"))["id"]
    if "deleted" in needed:
        await service.client.delete(f"/tasks/{found['deleted']}", headers=bearer("founder"))
    for name in needed & {"comment", "mine"}:
        found[name] = (await made(service, f"/tasks/{found['task']}/comments", {"body": "x"}, "founder"))["id"]
    if "mine" in needed:
        await give_to(service, found["mine"], caller)
    if "invitation" in needed:
        path = f"/engagements/{names['engagement']}/invitations"
        found["invitation"] = (await made(service, path, {"role": "viewer"}, "founder"))["id"]
    return found


async def give_to(service: Service, comment: int, caller: str) -> None:
    async with service.database.session() as session:  # whoever may not comment (any more) may have done it before
        await (await session.connection()).execute(
            text("UPDATE comments SET author_id = :caller WHERE id = :id"), {"caller": caller, "id": comment}
        )
        await session.commit()


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.operation} {row.path}")
async def test_each_role_is_answered_as_the_table_says(service: Service, row: Row) -> None:
    names, answered = await an_engagement(service), {}
    needed = set(re.findall(r"{(\w+)}", row.path + str(BODIES.get(row.operation, ""))))
    for caller in CALLERS:
        found = await things_in(service, names, caller, needed)
        headers = {} if caller == "nobody" else bearer(caller)
        if row.operation == "import_tasks":
            headers["Idempotency-Key"] = f"k-{names['engagement']}"
        body = filled(BODIES[row.operation], found) if row.operation in BODIES else None
        path = row.path.format(**found)
        async with service.client.stream(row.method, path, json=body, headers=headers) as answer:
            answered[caller] = answer.status_code
            if row.operation.startswith("bulk") and answer.status_code == 200:
                await answer.aread()
                answered[caller] = answer.json()["results"][0]["status"]
    assert answered == row.expected
