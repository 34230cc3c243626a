"""Who may call what: every operation of every service has a guard, and it is the one that is written down here.

The tables are written by hand on purpose. A route that is new, or whose guard changes, fails here until a person says
that it is meant.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from audit_worker.app import create_app as create_audit_worker
from audit_worker.settings import AuditWorkerSettings
from chassis.database import get_db
from chassis.identity import ROLES, Permission, get_current_user, operations_of
from chassis.identity.permissions import EVERYBODY, NEVER_IN_A_KEY, permissions_of, roles_with
from chassis.paths import API_PREFIX, SIDECAR_PREFIXES
from chassis.testing import settings_for
from notifier.app import create_app as create_notifier
from notifier.settings import NotifierSettings
from task_api.app import create_app as create_task_api
from task_api.settings import TaskApiSettings

_DEAD_LETTERS: Final = {
    Permission.DEAD_LETTERS_READ: {"list_letters", "show_letter"},
    Permission.DEAD_LETTERS_WRITE: {"redrive_letter", "redrive_letters", "discard_letter"},
}
GUARDED: Final[dict[str, dict[Permission, set[str]]]] = {
    "task-api": {
        Permission.TASKS_READ: {
            "list_tasks", "get_task", "list_changes", "stream_changes", "export_tasks",
            "list_completions", "list_task_completions", "list_comments", "get_comment",
        },
        Permission.TASKS_WRITE: {
            "create_task", "replace_task", "patch_task", "delete_task", "toggle_task", "move_task", "complete_task",
            "reopen_task", "restore_task", "bulk_tasks", "read_quick_add", "create_quick_add", "import_tasks",
            "create_comment", "edit_comment", "delete_comment",
        },
        Permission.ENGAGEMENTS_READ: {"list_engagements", "get_engagement", "list_members", "list_invitations"},
        Permission.ENGAGEMENTS_WRITE: {
            "create_engagement", "rename_engagement", "delete_engagement", "change_role", "remove_member",
            "leave_engagement", "transfer_engagement", "create_invitation", "revoke_invitation", "accept_invitation",
        },
        Permission.PROFILE_READ: {"get_profile", "export_account"},
        Permission.PROFILE_WRITE: {"patch_profile"},
        Permission.ACCOUNT_ERASE: {"erase_account", "get_erasure"},
        Permission.CALENDAR_FEEDS_READ: {"list_calendar_feeds"},
        Permission.CALENDAR_FEEDS_WRITE: {"create_calendar_feed", "rotate_calendar_feed", "revoke_calendar_feed"},
        Permission.API_KEYS_MANAGE: {
            "create_api_key", "list_api_keys", "get_api_key", "change_api_key", "rotate_api_key", "revoke_api_key",
        },
    },
    "audit-worker": {
        Permission.AUDIT_READ: {"list_entries"},
        Permission.GAPS_READ: {"list_gaps"},
    } | _DEAD_LETTERS,
    "notifier": {
        Permission.NOTIFICATIONS_READ: {"list_notifications"},
        Permission.NOTIFICATIONS_WRITE: {"mark_read"},
    } | _DEAD_LETTERS,
}  # fmt: skip
OPEN: Final = {"openapi", "live", "ready", "metrics", "docs", "docs_asset"}
"""What anybody may read, of every service: it says nothing about anyone."""
OPEN_BY_TOKEN: Final = {"read_calendar_feed"}
"""Whose path holds the credential."""
FOR_OUR_SERVICES: Final = {"introspect_api_key", "tell_membership"}
"""What our services ask each other; wants a secret of theirs (`test_introspection`, `test_membership`)."""
FOR_THE_SIDECAR: Final = {"_get_subscriptions", "on_task_events", "on_dead_letter", "on_account_event"}
"""What daprd calls; all but the list of subscriptions want its token (`test_subscriptions` of each consumer)."""


def apps() -> Iterator[tuple[str, FastAPI]]:
    yield "task-api", create_task_api(settings_for(TaskApiSettings))
    yield "audit-worker", create_audit_worker(settings_for(AuditWorkerSettings))
    yield "notifier", create_notifier(settings_for(NotifierSettings))


@pytest.fixture(params=list(apps()), ids=lambda param: param[0])
def service(request: pytest.FixtureRequest) -> tuple[str, FastAPI]:
    name, app = request.param
    return name, app


def test_every_operation_has_the_one_guard_that_is_written_down(service: tuple[str, FastAPI]) -> None:
    name, app = service
    expected = {operation: permission for permission, of_it in GUARDED[name].items() for operation in of_it}
    found = {
        operation.operation_id: {guard.permission for guard in operation.guards}
        for operation in operations_of(app.routes)
        if operation.operation_id not in OPEN | OPEN_BY_TOKEN | FOR_OUR_SERVICES | FOR_THE_SIDECAR
    }
    assert found == {operation: {permission} for operation, permission in expected.items()}


def test_what_is_open_is_no_part_of_the_api_or_says_who_may_in_its_path(service: tuple[str, FastAPI]) -> None:
    for operation in operations_of(service[1].routes):
        if not operation.guards and operation.operation_id not in OPEN_BY_TOKEN:
            in_api, for_sidecar = (operation.path.startswith(prefix) for prefix in (API_PREFIX, SIDECAR_PREFIXES))
            assert not in_api, f"{operation.operation_id} has no guard"
            assert for_sidecar == (operation.operation_id in FOR_THE_SIDECAR)


def test_the_openapi_document_names_the_permission_of_every_operation(service: tuple[str, FastAPI]) -> None:
    name, app = service
    described = {
        operation["operationId"]: operation["x-permission"]
        for item in app.openapi()["paths"].values()
        for operation in item.values()
        if "x-permission" in operation
    }
    assert described == {operation: permission for permission, of_it in GUARDED[name].items() for operation in of_it}


def calls_in_order(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        yield from calls_in_order(dependency)
    yield dependant.call


def test_no_route_holds_a_connection_while_it_finds_out_who_calls(service: tuple[str, FastAPI]) -> None:
    """A signed request takes a connection for its nonce: with one held already, a full pool would wait for itself."""
    walked = 0
    for context in iter_route_contexts(service[1].routes):
        dependant = getattr(context, "dependant", None)
        calls = list(calls_in_order(dependant)) if isinstance(dependant, Dependant) else []
        if get_db in calls and get_current_user in calls:
            walked += 1
            assert calls.index(get_current_user) < calls.index(get_db), context.path
    assert walked


@pytest.mark.parametrize(
    ("roles", "more"),
    [
        ([], set()),
        (["nobody-knows-this-one"], set()),
        (["auditor"], {"audit:read-all", "gaps:read"}),
        (["admin"], {"audit:read-all", "gaps:read", "dead-letters:read", "dead-letters:write"}),
        (["admin", "auditor"], {"audit:read-all", "gaps:read", "dead-letters:read", "dead-letters:write"}),
    ],
)
def test_a_caller_has_what_their_roles_give_and_what_everybody_has(roles: list[str], more: set[str]) -> None:
    assert permissions_of(roles) == ROLES[EVERYBODY] | more


def test_a_key_can_be_made_for_anything_but_making_keys_and_ending_the_account() -> None:
    assert {"api-keys:manage", "account:erase"} == NEVER_IN_A_KEY


def test_the_page_on_permissions_shows_the_table_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs/api/permissions.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    roles = rows[0][2:]
    shown = {row[0].strip("`"): {role for role, mark in zip(roles, row[2:], strict=True) if mark} for row in rows[2:]}
    assert shown == {permission: set(roles_with(permission)) for permission in Permission}
