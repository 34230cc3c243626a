"""Tasks in engagements: what members reach, what stays apart, and what events say."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import text

from chassis.database import Database
from chassis.testing import bearer

TASKS: Final = "/api/v1/tasks"
ENGAGEMENTS: Final = "/api/v1/engagements"
ALICE, BOB, CAROL = (bearer(name) for name in ("alice", "bob", "carol"))
MakeEngagement = Callable[..., Awaitable[int]]
Json = dict[str, Any]


async def create(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, **fields: object) -> Json:
    answer = await client.post(TASKS, json={"title": "x"} | fields, headers=headers)
    assert answer.status_code == 201, answer.text
    task: Json = answer.json()
    return task


async def listed(client: httpx2.AsyncClient, query: str = "", headers: dict[str, str] = ALICE) -> list[int]:
    answer = await client.get(f"{TASKS}?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [task["id"] for task in answer.json()["items"]]


async def events(database: Database, task_id: int) -> list[Json]:
    async with database.session() as session:
        connection = await session.connection()
        rows = await connection.execute(
            text("SELECT type, payload FROM outbox WHERE aggregate_id = :id ORDER BY aggregate_version"),
            {"id": task_id},
        )
        return [{"type": row.type} | row.payload for row in rows]


async def test_a_list_is_of_one_space(client: httpx2.AsyncClient, engagement: MakeEngagement) -> None:
    one, two = await engagement(bob="editor"), await engagement()
    personal = await create(client, title="apples")
    inside = await create(client, BOB, title="apples", engagement_id=one, tags=["a"])
    await create(client, title="apples", engagement_id=two)
    assert (personal["engagement_id"], inside["engagement_id"]) == (None, one)
    assert await listed(client) == await listed(client, "q=apples") == [personal["id"]]
    assert await listed(client, headers=BOB) == []
    for query in ("", "&q=app", "&tag=a", "&sort=position", "&sort=-priority,due_at&completed=false"):
        assert await listed(client, f"engagement_id={one}{query}") == [inside["id"]]
        assert await listed(client, f"engagement_id={one}{query}", BOB) == [inside["id"]]
    counted = await client.get(f"{TASKS}?engagement_id={one}&total=true", headers=BOB)
    assert counted.json()["total"] == 1


async def test_no_engagement_is_another_answer_than_one_of_others(
    client: httpx2.AsyncClient, engagement: MakeEngagement
) -> None:
    one = await engagement()
    foreign = await client.get(f"{TASKS}?engagement_id={one}", headers=CAROL)
    none = await client.get(f"{TASKS}?engagement_id={one + 1000}", headers=CAROL)
    assert (foreign.status_code, foreign.json()["code"]) == (403, "engagement_forbidden")
    assert (none.status_code, none.json()["code"]) == (404, "engagement_not_found")


async def test_a_cursor_of_one_space_is_none_of_another(client: httpx2.AsyncClient, engagement: MakeEngagement) -> None:
    one, two = await engagement(), await engagement()
    for space in (one, one, two, two, None):
        await create(client, engagement_id=space)
    page = (await client.get(f"{TASKS}?limit=1&engagement_id={one}", headers=ALICE)).json()["next_cursor"]
    feed = (await client.get(f"{TASKS}/changes?limit=1&engagement_id={one}", headers=ALICE)).json()["next_cursor"]
    for where in (f"&engagement_id={two}", ""):
        other_page = await client.get(f"{TASKS}?limit=1&cursor={page}{where}", headers=ALICE)
        assert (other_page.status_code, other_page.json()["code"]) == (422, "cursor_mismatch")
        other_feed = await client.get(f"{TASKS}/changes?limit=1&cursor={feed}{where}", headers=ALICE)
        assert (other_feed.status_code, other_feed.json()["code"]) == (422, "invalid_cursor")


async def test_refusals_tell_who_is_outside_from_whose_role_is_too_small(
    client: httpx2.AsyncClient, engagement: MakeEngagement
) -> None:
    task = await create(client, engagement_id=await engagement(bob="viewer"))
    path = f"{TASKS}/{task['id']}"
    outside = await client.patch(path, json={"title": "y"}, headers=CAROL)
    assert (outside.status_code, outside.json()["code"]) == (403, "task_forbidden")
    small = await client.patch(path, json={"title": "y"}, headers=BOB)
    assert (small.status_code, small.json()["code"]) == (403, "engagement_forbidden")
    assert "viewer" in small.json()["detail"]
    assert "owner or editor" in small.json()["detail"]
    assert (await client.get(path, headers=BOB)).json() == task


async def test_a_task_does_not_move_between_spaces(client: httpx2.AsyncClient, engagement: MakeEngagement) -> None:
    one = await engagement()
    task, inside = await create(client), await create(client, engagement_id=one)
    path = f"{TASKS}/{task['id']}"
    refused = await client.patch(path, json={"engagement_id": one}, headers=ALICE)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "engagement_id")
    for other in ({"parent_id": inside["id"]}, {"title": "y", "parent_id": inside["id"]}):
        below = await client.patch(path, json=other, headers=ALICE)
        assert (below.status_code, below.json()["code"]) == (422, "invalid_parent")
    beside = await client.post(f"{path}/move", json={"after": inside["id"]}, headers=ALICE)
    assert (beside.status_code, beside.json()["code"]) == (422, "invalid_move")
    created = await client.post(TASKS, json={"title": "x", "parent_id": inside["id"]}, headers=ALICE)
    assert (created.status_code, created.json()["code"]) == (422, "invalid_parent")


@pytest.mark.parametrize("in_bulk", [False, True], ids=["alone", "in a bulk"])
async def test_a_task_goes_below_one_of_the_same_engagement_and_below_no_other(
    client: httpx2.AsyncClient, engagement: MakeEngagement, in_bulk: bool
) -> None:
    one, two = await engagement(bob="editor"), await engagement(bob="editor")
    task, above, elsewhere = [await create(client, BOB, engagement_id=space) for space in (one, one, two)]
    personal = await create(client, BOB)
    answered = {}
    for name, other in (("personal", personal), ("elsewhere", elsewhere), ("above", above)):
        changes = {"parent_id": other["id"]}
        if in_bulk:
            operations = [{"op": "update", "id": task["id"], "changes": changes}]
            bulk = await client.post(f"{TASKS}/bulk", json={"operations": operations}, headers=BOB)
            answered[name] = bulk.json()["results"][0]["status"]
        else:
            answered[name] = (await client.patch(f"{TASKS}/{task['id']}", json=changes, headers=BOB)).status_code
    assert answered == {"personal": 422, "elsewhere": 422, "above": 200}


async def test_what_follows_from_a_change_stays_in_the_engagement(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement(bob="editor", carol="viewer")
    top = await create(client, engagement_id=one, due_at="2030-01-01T00:00:00Z", recurrence={"rule": "FREQ=DAILY"})
    below = await create(client, BOB, engagement_id=one, parent_id=top["id"])
    done = await client.post(f"{TASKS}/{top['id']}/complete", headers=BOB)
    assert done.status_code == 200, done.text
    (following,) = set(await listed(client, f"engagement_id={one}")) - {top["id"], below["id"]}
    assert (await client.get(f"{TASKS}/{below['id']}", headers=CAROL)).json()["completed"]
    for task_id, version in ((top["id"], 2), (below["id"], 2), (following, 1)):
        told = (await events(database, task_id))[version - 1]
        assert told["actor"]["id"] == "bob"
        assert told["recipients"] == ["alice", "bob", "carol"]
        assert (told["task"]["engagement_id"], told["task"]["owner_id"]) == (one, f"engagement:{one}")
    history = await client.get(f"/api/v1/completions?engagement_id={one}", headers=CAROL)
    assert {item["task_id"] for item in history.json()["items"]} == {top["id"], below["id"]}
    assert (await client.get("/api/v1/completions", headers=BOB)).json()["items"] == []


async def test_the_event_of_a_personal_task_names_no_engagement(client: httpx2.AsyncClient, database: Database) -> None:
    (told,) = await events(database, (await create(client))["id"])
    assert "recipients" not in told
    assert "engagement_id" not in told["task"]
    assert "engagement_id" not in told["changes"]


async def test_a_bulk_goes_through_several_spaces(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one, two = await engagement(bob="editor"), await engagement(bob="viewer")
    ids = [task["id"] for task in [await create(client, engagement_id=space) for space in (one, two, None)]]
    own = (await create(client, BOB))["id"]
    operations = [
        *({"op": "update", "id": task_id, "changes": {"title": "y"}} for task_id in [*ids, own, 10**9]),
        *({"op": "create", "task": {"title": "z", "engagement_id": space}} for space in (one, two, 10**9, None)),
    ]
    answer = await client.post(f"{TASKS}/bulk", json={"operations": operations}, headers=BOB)
    results = answer.json()["results"]
    codes = [result["error"]["code"] if result["error"] else result["status"] for result in results]
    assert codes == [
        200, "engagement_forbidden", "task_forbidden", 200, "task_not_found",
        201, "engagement_forbidden", "engagement_forbidden", 201,
    ]  # fmt: skip
    assert (await events(database, ids[0]))[1]["recipients"] == ["alice", "bob"]
    assert "recipients" not in (await events(database, own))[1]
    assert (await events(database, results[5]["id"]))[0]["recipients"] == ["alice", "bob"]


async def test_quick_add_and_import_and_export_go_to_an_engagement(
    client: httpx2.AsyncClient, engagement: MakeEngagement
) -> None:
    one = await engagement(bob="editor")
    quick = await client.post(
        f"{TASKS}/quick-add/create", json={"text": "milk !high", "engagement_id": one}, headers=BOB
    )
    assert quick.json()["engagement_id"] == one
    file = {"format": "taskwire-tasks", "version": 1, "tasks": [{"id": "1", "title": "a"}, {"title": "b"}]}
    headers = BOB | {"Idempotency-Key": "k-1"}
    for made, before in ((2, 0), (0, 2)):
        sent = await client.post(f"{TASKS}/import?engagement_id={one}", json=file, headers=headers)
        assert (sent.json()["created"], sent.json()["already_imported"]) == (made, before), sent.text
    elsewhere = await client.post(f"{TASKS}/import", json=file, headers=headers)
    assert elsewhere.json()["created"] == 2
    exported = json.loads((await client.get(f"{TASKS}/export?engagement_id={one}", headers=ALICE)).content)
    assert sorted(task["title"] for task in exported["tasks"]) == ["a", "b", "milk"]
    assert "engagement_id" not in exported["tasks"][0]
    own = json.loads((await client.get(f"{TASKS}/export", headers=BOB)).content)
    assert sorted(task["title"] for task in own["tasks"]) == ["a", "b"]


async def test_a_removed_member_reaches_nothing_and_what_they_made_stays(
    client: httpx2.AsyncClient, engagement: MakeEngagement
) -> None:
    one = await engagement(bob="editor")
    task = await create(client, BOB, engagement_id=one)
    feed = (await client.get(f"{TASKS}/changes?engagement_id={one}", headers=BOB)).json()["next_cursor"]
    assert (await client.delete(f"{ENGAGEMENTS}/{one}/members/bob", headers=ALICE)).status_code == 204
    tried = [
        await client.get(f"{TASKS}/{task['id']}", headers=BOB),
        await client.patch(f"{TASKS}/{task['id']}", json={"title": "y"}, headers=BOB),
        await client.get(f"{TASKS}?engagement_id={one}", headers=BOB),
        await client.get(f"{TASKS}/changes?engagement_id={one}&cursor={feed}", headers=BOB),
        await client.get(f"{TASKS}/export?engagement_id={one}", headers=BOB),
        await client.post(TASKS, json={"title": "x", "engagement_id": one}, headers=BOB),
    ]
    assert [answer.status_code for answer in tried] == [403] * len(tried)
    assert await listed(client, f"engagement_id={one}") == [task["id"]]
    assert await listed(client, headers=BOB) == []


@pytest.mark.parametrize("by", ["alice", "bob"])
async def test_a_comment_is_edited_by_its_author_alone(
    client: httpx2.AsyncClient, engagement: MakeEngagement, by: str
) -> None:
    one = await engagement(bob="editor")
    task = await create(client, engagement_id=one)
    written = await client.post(f"{TASKS}/{task['id']}/comments", json={"body": "x"}, headers=bearer(by))
    path = f"/api/v1/comments/{written.json()['id']}"
    answered = {
        name: (await client.patch(path, json={"body": f"by {name}"}, headers=bearer(name))).status_code
        for name in ("alice", "bob", "carol")
    }
    assert answered == {"alice": 403, "bob": 403, "carol": 403} | {by: 200}
    assert (await client.get(path, headers=BOB)).json()["body"] == f"by {by}"
