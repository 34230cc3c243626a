"""What each operation asks of PostgreSQL: as many statements for many tasks as for few, and how many.

An operation that is new in the OpenAPI document and not here fails.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import JsonValue

from chassis.openapi import operations
from chassis.testing import bearer

TASKS: Final = "/api/v1/tasks"
ENGAGEMENTS: Final = "/api/v1/engagements"
FEEDS: Final = "/api/v1/calendar-feeds"
KEYS: Final = "/api/v1/api-keys"
SentStatements = Callable[[], AbstractContextManager[list[str]]]
WHOLE: Final[dict[str, JsonValue]] = {
    "title": "y",
    "description": "d",
    "priority": "low",
    "due_at": None,
    "completed": False,
    "tags": ["home"],
    "parent_id": None,
    "recurrence": None,
}
FRIEND: Final = bearer("friend")
ME: Final = "/api/v1/users/me"
FEW: Final = 2
MANY: Final = 40


@dataclass(frozen=True)
class Asked:
    """A request about a task with subtasks, and the statements it takes, by their first words."""

    method: str
    path: str
    statements: str
    body: JsonValue = None
    before: str | None = None
    """What is done to the task first, uncounted."""
    keyed: bool = False
    """Whether it must have an `Idempotency-Key`."""


# Who takes subtasks along asks whether there are any, holds the owner's trees, locks the task, walks the tree, locks
# what is there, and walks it once more.
OPERATIONS: Final = {
    "live": Asked("GET", "/health/live", ""),
    "list_tasks": Asked("GET", f"{TASKS}?total=true&q=x&sort=-priority,due_at", "SELECT SELECT"),
    "get_task": Asked("GET", "{task}", "SELECT"),
    "list_changes": Asked("GET", f"{TASKS}/changes?limit=500", "UPDATE SELECT"),
    "create_task": Asked("POST", TASKS, "INSERT INSERT", {"title": "y"}),
    "replace_task": Asked("PUT", "{task}", "SELECT UPDATE INSERT", WHOLE),
    "patch_task": Asked("PATCH", "{task}", "SELECT UPDATE INSERT", {"title": "z", "tags": ["home"]}),
    "move_task": Asked("POST", "{task}/move", "SELECT SELECT SELECT SELECT UPDATE INSERT", {"after": "{other}"}),
    "toggle_task": Asked("POST", "{task}/toggle", "SELECT SELECT SELECT WITH SELECT WITH UPDATE INSERT INSERT"),
    "complete_task": Asked("POST", "{task}/complete", "SELECT SELECT SELECT WITH SELECT WITH UPDATE INSERT INSERT"),
    "reopen_task": Asked("POST", "{task}/reopen", "SELECT UPDATE INSERT UPDATE", before="complete"),
    "delete_task": Asked("DELETE", "{task}", "SELECT SELECT SELECT WITH SELECT WITH UPDATE INSERT"),
    "restore_task": Asked("POST", "{task}/restore", "SELECT SELECT WITH SELECT WITH UPDATE INSERT", before="delete"),
    "bulk_tasks": Asked(
        "POST",
        f"{TASKS}/bulk",
        "SELECT SELECT SELECT WITH SELECT WITH UPDATE INSERT INSERT",
        {"operations": [{"op": "complete", "id": "{id}"}]},
    ),
    "read_quick_add": Asked("POST", f"{TASKS}/quick-add", "SELECT", {"text": "pay rent every 1st at 9am #home"}),
    "create_quick_add": Asked("POST", f"{TASKS}/quick-add/create", "SELECT INSERT INSERT", {"text": "pay rent #home"}),
    "export_tasks": Asked("GET", f"{TASKS}/export", "SET SELECT WITH"),
    "import_tasks": Asked(
        "POST",
        f"{TASKS}/import",
        "SELECT SELECT SELECT INSERT INSERT INSERT",
        {"format": "taskwire-tasks", "version": 1, "tasks": [{"title": "x"}, {"title": "y"}]},
        keyed=True,
    ),
    "list_completions": Asked("GET", "/api/v1/completions?total=true", "SELECT SELECT", before="complete"),
    "list_task_completions": Asked("GET", "{task}/completions", "SELECT SELECT", before="complete"),
    "create_comment": Asked("POST", "{task}/comments", "SELECT SELECT INSERT", {"body": "z"}),
    "list_comments": Asked("GET", "{task}/comments?total=true", "SELECT SELECT SELECT"),
    "get_comment": Asked("GET", "/api/v1/comments/{comment}", "SELECT"),
    "edit_comment": Asked("PATCH", "/api/v1/comments/{comment}", "SELECT UPDATE", {"body": "z"}),
    "delete_comment": Asked("DELETE", "/api/v1/comments/{comment}", "SELECT DELETE"),
    "create_engagement": Asked("POST", ENGAGEMENTS, "SELECT SELECT INSERT INSERT", {"name": "z"}),
    "list_engagements": Asked("GET", ENGAGEMENTS, "SELECT"),
    "get_engagement": Asked("GET", "{space}", "SELECT"),
    "rename_engagement": Asked("PATCH", "{space}", "SELECT SELECT UPDATE", {"name": "z"}),
    "delete_engagement": Asked("DELETE", "{space}", "SELECT SELECT UPDATE DELETE DELETE"),
    "list_members": Asked("GET", "{space}/members", "SELECT SELECT"),
    "change_role": Asked("PATCH", "{space}/members/friend", "SELECT SELECT UPDATE", {"role": "viewer"}),
    "remove_member": Asked("DELETE", "{space}/members/friend", "SELECT SELECT DELETE"),
    "leave_engagement": Asked("POST", "{space}/leave", "SELECT SELECT DELETE"),
    "transfer_engagement": Asked("POST", "{space}/transfer", "SELECT SELECT UPDATE UPDATE", {"user_id": "friend"}),
    "create_invitation": Asked("POST", "{space}/invitations", "SELECT SELECT DELETE SELECT INSERT", {"role": "viewer"}),
    "list_invitations": Asked("GET", "{space}/invitations", "SELECT SELECT"),
    "revoke_invitation": Asked("DELETE", "{space}/invitations/{invitation}", "SELECT SELECT DELETE"),
    "accept_invitation": Asked(
        "POST",
        f"{ENGAGEMENTS}/invitations/accept",
        "SELECT SELECT SELECT SELECT SELECT SELECT UPDATE INSERT",
        {"token": "{invited}"},
    ),
    "list_calendar_feeds": Asked("GET", FEEDS, "SELECT"),
    "create_calendar_feed": Asked("POST", FEEDS, "SELECT SELECT INSERT", {"name": "z"}),
    "rotate_calendar_feed": Asked("POST", f"{FEEDS}/{{feed}}/rotate", "SELECT UPDATE"),
    "revoke_calendar_feed": Asked("DELETE", f"{FEEDS}/{{feed}}", "DELETE"),
    "get_profile": Asked("GET", ME, "SELECT"),
    "patch_profile": Asked("PATCH", ME, "SELECT INSERT", {"name": "Alice", "email": "a@example.org"}),
    "erase_account": Asked(
        "DELETE",
        ME,
        "INSERT DELETE SELECT SELECT SELECT SELECT DELETE DELETE DELETE UPDATE INSERT SELECT SELECT",
        {"confirm": "{owner}"},
    ),
    "get_erasure": Asked("GET", f"{ME}/erasure/{{erasure}}", "SELECT SELECT", before="erase"),
    "export_account": Asked("GET", f"{ME}/export", "SELECT SELECT SELECT SELECT SELECT SELECT SELECT"),
    "list_api_keys": Asked("GET", f"{KEYS}?total=true", "SELECT SELECT"),
    "get_api_key": Asked("GET", f"{KEYS}/{{key}}", "SELECT"),
    "create_api_key": Asked("POST", KEYS, "SELECT SELECT INSERT INSERT", {"name": "z", "scopes": ["tasks:read"]}),
    "change_api_key": Asked("PATCH", f"{KEYS}/{{key}}", "SELECT UPDATE", {"name": "z"}),
    "rotate_api_key": Asked(
        "POST", f"{KEYS}/{{key}}/rotate", "SELECT DELETE UPDATE INSERT UPDATE", {"overlap_seconds": 60}
    ),
    "revoke_api_key": Asked("DELETE", f"{KEYS}/{{key}}", "SELECT UPDATE DELETE"),
    "read_calendar_feed": Asked("GET", "/api/v1/calendars/{token}.ics", "SELECT SELECT"),
}
ELSEWHERE: Final = {
    "ready": "asks for the revision of the schema, not for tasks",
    "stream_changes": "test_sync_stream.py: reads in the background, by pages of the feed",
}


def test_every_operation_has_its_statements_counted(app: FastAPI) -> None:
    there = {operation["operationId"] for _, _, operation in operations(app.openapi())}
    assert there == OPERATIONS.keys() | ELSEWHERE.keys()


async def family(client: httpx2.AsyncClient, headers: dict[str, str], size: int) -> dict[str, JsonValue]:
    """Make a task with so many below it and so many comments, another task, a feed and an API key; give their names."""
    ids = []
    for _ in range(2):
        made = await client.post(TASKS, json={"title": "x", "due_at": "2030-01-01T00:00:00Z"}, headers=headers)
        ids.append(made.json()["id"])
    below = [{"op": "create", "task": {"title": "x", "parent_id": ids[0]}} for _ in range(size)]
    made = await client.post(f"{TASKS}/bulk", json={"operations": below}, headers=headers)
    assert made.json()["failed"] == 0
    comments = [await client.post(f"{TASKS}/{ids[0]}/comments", json={"body": "x"}, headers=headers) for _ in below]
    space, invitation = await shared(client, headers)
    other_space = (await client.post(ENGAGEMENTS, json={"name": "x"}, headers=FRIEND)).json()["id"]
    invited = f"{ENGAGEMENTS}/{other_space}/invitations"
    feed = (await client.post(FEEDS, json={"name": "x"}, headers=headers)).json()
    key = (await client.post(KEYS, json={"name": "x", "scopes": ["tasks:read"]}, headers=headers)).json()
    return {
        "id": ids[0],
        "other": ids[1],
        "comment": comments[-1].json()["id"],
        "feed": feed["id"],
        "token": feed["token"],
        "space": space,
        "invitation": invitation,
        "invited": (await client.post(invited, json={"role": "viewer"}, headers=FRIEND)).json()["token"],
        "key": key["id"],
    }


async def shared(client: httpx2.AsyncClient, headers: dict[str, str]) -> tuple[str, int]:
    """Make an engagement with a friend as another owner, and an invitation; give its path and that one's id."""
    space = (await client.post(ENGAGEMENTS, json={"name": "x"}, headers=headers)).headers["location"]
    invitations = [
        (await client.post(f"{space}/invitations", json={"role": "owner"}, headers=headers)).json() for _ in range(2)
    ]
    taken = {"token": invitations[0]["token"]}
    await client.post(f"{ENGAGEMENTS}/invitations/accept", json=taken, headers=FRIEND)
    return space, invitations[1]["id"]


def filled(value: JsonValue, names: dict[str, JsonValue]) -> JsonValue:
    """Put ids where names are."""
    match value:
        case dict():
            return {name: filled(part, names) for name, part in value.items()}
        case list():
            return [filled(part, names) for part in value]
        case str() if value.strip("{}") in names:
            return names[value.strip("{}")]
        case _:
            return value


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_takes_so_many_statements_for_few_tasks_and_for_many(
    client: httpx2.AsyncClient, sent_statements: SentStatements, name: str
) -> None:
    asked, counted = OPERATIONS[name], list[str]()
    for size in (FEW, MANY):
        headers = bearer(f"owner-{size}")
        names = await family(client, headers, size)
        task = f"{TASKS}/{names['id']}"
        names["owner"] = f"owner-{size}"
        if asked.before == "delete":
            await client.delete(task, headers=headers)
        elif asked.before == "erase":
            erasure = await client.request("DELETE", ME, json={"confirm": names["owner"]}, headers=headers)
            names["erasure"] = erasure.json()["id"]
        elif asked.before:
            await client.post(f"{task}/{asked.before}", headers=headers)
        path, body = asked.path.replace("{task}", task).format(**names), filled(asked.body, names)
        if asked.keyed:
            headers |= {"Idempotency-Key": "k-1"}
        with sent_statements() as sent:
            answer = await client.request(asked.method, path, json=body, headers=headers)
        assert 200 <= answer.status_code < 300, answer.text
        counted.append(" ".join(sent))
    assert counted[0] == counted[1], "a statement for each task"
    assert Counter(counted[0].split()) == Counter(asked.statements.split()), counted[0]
