"""The task API as a frontend sees it."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import bearer, make_token
from task_api.tasks.schemas import RecurrencePatch, RecurrenceReplace, TaskPatch, TaskReplace

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
JSON = {"Content-Type": "application/json"}
FULL: dict[str, Any] = {
    "title": "Pay rent",
    "description": "before the third",
    "priority": "high",
    "due_at": "2027-01-31T09:00:00Z",
    "completed": False,
    "tags": ["home"],
    "parent_id": None,
    "recurrence": {"rule": "FREQ=MONTHLY", "anchor": "due", "time_zone": "Europe/Paris"},
}


async def create(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, **fields: object) -> dict[str, Any]:
    response = await client.post(TASKS, json={"title": "Buy milk"} | fields, headers=headers)
    assert response.status_code == 201, response.text
    task: dict[str, Any] = response.json()
    return task


async def test_a_created_task_is_complete_and_has_an_address(client: httpx2.AsyncClient) -> None:
    response = await client.post(TASKS, json={"title": "  Buy milk "}, headers=ALICE)
    task = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"{TASKS}/{task['id']}"
    assert (await client.get(response.headers["location"], headers=ALICE)).json() == task
    assert task == {
        "id": task["id"],
        "title": "Buy milk",
        "description": None,
        "priority": "medium",
        "due_at": None,
        "tags": [],
        "parent_id": None,
        "recurrence": None,
        "engagement_id": None,
        "position": task["position"],
        "completed": False,
        "completed_at": None,
        "version": 1,
        "created_at": task["created_at"],
        "updated_at": task["created_at"],
    }
    assert datetime.fromisoformat(task["created_at"]).utcoffset() is not None


async def test_put_replaces_everything_that_can_be_set(client: httpx2.AsyncClient) -> None:
    task = await create(client, description="old", priority="low")
    response = await client.put(f"{TASKS}/{task['id']}", json=FULL | {"description": None}, headers=ALICE)
    assert response.status_code == 200
    assert (FULL | {"description": None, "version": 2}).items() <= response.json().items()


FIELDS: list[tuple[str, ...]] = [(name,) for name in TaskReplace.model_fields]
FIELDS += [("recurrence", name) for name in RecurrenceReplace.model_fields]


@pytest.mark.parametrize("left_out", FIELDS, ids=".".join)
async def test_put_refuses_a_partial_body_and_changes_nothing(
    client: httpx2.AsyncClient, left_out: tuple[str, ...]
) -> None:
    task = await create(client, **{name: value for name, value in FULL.items() if name != "completed"})
    body = json.loads(json.dumps(FULL | {"title": "changed"}))
    inner = body
    for name in left_out[:-1]:
        inner = inner[name]
    del inner[left_out[-1]]
    response = await client.put(f"{TASKS}/{task['id']}", json=body, headers=ALICE)
    assert (response.status_code, response.json()["code"]) == (422, "validation_error")
    assert response.json()["errors"] == [{"field": ".".join(left_out), "message": "Field required"}]
    assert (await client.get(f"{TASKS}/{task['id']}", headers=ALICE)).json() == task


def test_put_sets_all_that_a_patch_can_set() -> None:
    assert TaskReplace.model_fields.keys() == TaskPatch.model_fields.keys() == FULL.keys()
    assert RecurrenceReplace.model_fields.keys() == RecurrencePatch.model_fields.keys() == FULL["recurrence"].keys()


async def test_put_takes_null_for_all_that_may_be_empty(client: httpx2.AsyncClient) -> None:
    task = await create(client, **{name: value for name, value in FULL.items() if name != "completed"})
    empty = dict.fromkeys(("description", "due_at", "parent_id", "recurrence")) | {"tags": []}
    response = await client.put(f"{TASKS}/{task['id']}", json=FULL | empty, headers=ALICE)
    assert response.status_code == 200
    assert (FULL | empty | {"version": 2}).items() <= response.json().items()


PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text("abc ö✓", min_size=1, max_size=20).filter(str.strip),
        "description": st.none() | st.text("abc ö✓\n", max_size=30),
        "priority": st.sampled_from(["high", "medium", "low"]),
        "due_at": st.none() | st.sampled_from(["2027-05-01T00:00:00Z", "1999-12-31T23:59:59.5+09:00"]),
        "completed": st.booleans(),
        "recurrence": st.none()
        | st.fixed_dictionaries(
            {"rule": st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO"]), "anchor": st.just("completion")},
            optional={"time_zone": st.sampled_from(["UTC", "Asia/Tokyo"])},
        ),
        "parent_id": st.none(),
        "tags": st.lists(st.sampled_from(["home", "deep work", "קניות"]), max_size=3),
    },
)


@given(patches=st.lists(PATCHES, min_size=1, max_size=3))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_a_patch_leaves_every_field_it_does_not_name_untouched(
    client: httpx2.AsyncClient, patches: list[Mapping[str, object]]
) -> None:
    recurrence = {"rule": "FREQ=DAILY", "anchor": "completion", "time_zone": "Asia/Tokyo"}
    above = await create(client)
    fields = FULL | {"recurrence": recurrence, "parent_id": above["id"]}
    before = await create(client, **{name: value for name, value in fields.items() if name != "completed"})
    for patch in patches:
        response = await client.patch(f"{TASKS}/{before['id']}", json=patch, headers=ALICE)
        assert response.status_code == 200, response.text
        after = response.json()
        derived = {"version", "updated_at"} | ({"completed_at", "recurrence"} if "completed" in patch else set())
        untouched = set(before) - set(patch) - derived
        assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
        assert after["version"] in {before["version"], before["version"] + 1}
        assert after["completed"] == (after["completed_at"] is not None)
        before = after


async def test_a_change_that_changes_nothing_makes_no_version(client: httpx2.AsyncClient) -> None:
    task = await create(client)
    for request in (
        client.patch(f"{TASKS}/{task['id']}", json={"title": "Buy milk"}, headers=ALICE),
        client.patch(f"{TASKS}/{task['id']}", json={}, headers=ALICE),
        client.post(f"{TASKS}/{task['id']}/reopen", headers=ALICE),
    ):
        assert (await request).json() == task


async def test_complete_and_reopen_do_the_same_when_done_twice(client: httpx2.AsyncClient) -> None:
    path = f"{TASKS}/{(await create(client))['id']}"
    first = (await client.post(f"{path}/complete", headers=ALICE)).json()
    assert (first["completed"], first["version"]) == (True, 2)
    assert first["completed_at"] is not None
    assert (await client.post(f"{path}/complete", headers=ALICE)).json() == first
    reopened = (await client.post(f"{path}/reopen", headers=ALICE)).json()
    assert (reopened["completed"], reopened["completed_at"], reopened["version"]) == (False, None, 3)


async def test_toggle_flips(client: httpx2.AsyncClient) -> None:
    path = f"{TASKS}/{(await create(client))['id']}"
    flips = [(await client.post(f"{path}/toggle", headers=ALICE)).json()["completed"] for _ in range(3)]
    assert flips == [True, False, True]


async def test_a_deleted_task_is_gone(client: httpx2.AsyncClient) -> None:
    path = f"{TASKS}/{(await create(client))['id']}"
    response = await client.delete(path, headers=ALICE)
    assert (response.status_code, response.content) == (204, b"")
    for request in (client.get(path, headers=ALICE), client.delete(path, headers=ALICE)):
        assert (await request).status_code == 404
    assert (await client.get(path, headers=BOB)).status_code == 404
    assert (await client.get(TASKS, headers=ALICE)).json()["items"] == []


async def test_concurrent_toggles_each_count_once(client: httpx2.AsyncClient) -> None:
    path = f"{TASKS}/{(await create(client))['id']}"
    answers = await asyncio.gather(*(client.post(f"{path}/toggle", headers=ALICE) for _ in range(8)))
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 10))


EVERY_ROUTE = [
    ("GET", "", None),
    ("POST", "", {"title": "x"}),
    ("GET", "/{id}", None),
    ("PUT", "/{id}", FULL),
    ("PATCH", "/{id}", {"title": "mine now"}),
    ("DELETE", "/{id}", None),
    ("POST", "/{id}/toggle", None),
    ("POST", "/{id}/move", {"after": 987653}),
    ("POST", "/{id}/complete", None),
    ("POST", "/{id}/reopen", None),
    ("POST", "/{id}/restore", None),
]


@pytest.mark.parametrize(("method", "path", "body"), EVERY_ROUTE, ids=lambda value: str(value)[:20])
async def test_every_route_refuses_who_is_not_authenticated(
    client: httpx2.AsyncClient, method: str, path: str, body: object
) -> None:
    task = await create(client)
    for headers, challenge in (
        ({}, "Bearer"),
        ({"Authorization": "Bearer x.y.z"}, 'Bearer error="invalid_token"'),
        ({"Authorization": f"Bearer {make_token('alice', aud='others')}"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Basic YWxpY2U6cHc="}, "Bearer"),
    ):
        response = await client.request(method, TASKS + path.format(id=task["id"]), json=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
        assert response.headers["www-authenticate"] == challenge
    assert (await client.get(TASKS, headers=ALICE)).json()["items"] == [task]


@pytest.mark.parametrize(("method", "path", "body"), EVERY_ROUTE[2:], ids=lambda value: str(value)[:20])
async def test_someone_elses_task_is_forbidden_and_stays_as_it_is(
    client: httpx2.AsyncClient, method: str, path: str, body: object
) -> None:
    task = await create(client)
    for headers in (BOB, bearer("root", "admin", "auditor")):
        response = await client.request(method, TASKS + path.format(id=task["id"]), json=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "task_forbidden")
    assert (await client.get(f"{TASKS}/{task['id']}", headers=ALICE)).json() == task


@pytest.mark.parametrize(("method", "path", "body"), EVERY_ROUTE[2:], ids=lambda value: str(value)[:20])
async def test_a_task_that_never_was_is_not_found(
    client: httpx2.AsyncClient, method: str, path: str, body: object
) -> None:
    response = await client.request(method, TASKS + path.format(id=987654), json=body, headers=ALICE)
    assert (response.status_code, response.json()["code"]) == (404, "task_not_found")


async def test_a_list_shows_only_ones_own_tasks_newest_first(client: httpx2.AsyncClient) -> None:
    mine = [await create(client, title=f"task {number}") for number in range(3)]
    await create(client, BOB)
    page = (await client.get(TASKS, headers=ALICE)).json()
    assert page == {"items": mine[::-1], "next_cursor": None}


async def test_the_completed_filter_and_total_go_together(client: httpx2.AsyncClient) -> None:
    tasks = [await create(client) for _ in range(3)]
    done = (await client.post(f"{TASKS}/{tasks[1]['id']}/complete", headers=ALICE)).json()
    page = (await client.get(f"{TASKS}?completed=true&total=true", headers=ALICE)).json()
    assert page == {"items": [done], "next_cursor": None, "total": 1}
    page = (await client.get(f"{TASKS}?completed=false&total=true&limit=1", headers=ALICE)).json()
    assert (page["total"], page["items"]) == (2, [tasks[2]])


async def test_limit_and_offset_cut_the_list(client: httpx2.AsyncClient) -> None:
    ids = [(await create(client))["id"] for _ in range(5)][::-1]
    page = (await client.get(f"{TASKS}?limit=2&offset=1", headers=ALICE)).json()
    assert [task["id"] for task in page["items"]] == ids[1:3]
    page = (await client.get(f"{TASKS}?limit=2&offset=9", headers=ALICE)).json()
    assert page == {"items": [], "next_cursor": None}


async def test_cursors_walk_every_task_once_while_new_ones_arrive(client: httpx2.AsyncClient) -> None:
    ids = [(await create(client))["id"] for _ in range(5)][::-1]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await client.get(f"{TASKS}?limit=2{cursor and '&cursor=' + cursor}", headers=ALICE)).json()
        seen += [task["id"] for task in page["items"]]
        cursor = page["next_cursor"]
        await create(client)
    assert seen == ids


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "offset=-1", "offset=99999999999", "completed=maybe", "completed=%00",
     "cursor=nonsense", "cursor=" + "A" * 300, "total=2"],
)  # fmt: skip
async def test_list_parameters_out_of_bounds_are_named(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"{TASKS}?{query}", headers=ALICE)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == f"query.{query.split('=', maxsplit=1)[0]}"


@pytest.mark.parametrize("task_id", ["0", "-1", "abc", "1.5", "9223372036854775808", "%00", "1e3"])
async def test_ids_that_cannot_be_are_refused(client: httpx2.AsyncClient, task_id: str) -> None:
    response = await client.get(f"{TASKS}/{task_id}", headers=ALICE)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "path.task_id"


@pytest.mark.parametrize("task_id", ["9223372036854775807", "2147483648"])
async def test_the_largest_ids_are_simply_not_found(client: httpx2.AsyncClient, task_id: str) -> None:
    assert (await client.get(f"{TASKS}/{task_id}", headers=ALICE)).status_code == 404


BAD_FIELDS: list[tuple[str, object]] = [
    ("title", ""),
    ("title", "   "),
    ("title", "x" * 201),
    ("title", "a\x00b"),
    ("title", 7),
    ("title", None),
    ("title", ["x"]),
    ("title", "\ud800"),
    ("description", "x" * 10_001),
    ("description", "a\x00b"),
    ("description", {"text": "x"}),
    ("priority", "urgent"),
    ("priority", None),
    ("priority", 1),
    ("due_at", "tomorrow"),
    ("due_at", "2027-01-31"),
    ("due_at", "2027-01-31T09:00:00"),
    ("due_at", 1_800_000_000),
    ("due_at", "1800000000"),
    ("due_at", True),
    ("due_at", "0001-01-01T00:00:00+14:00"),
    ("due_at", "9999-12-31T23:59:59-14:00"),
    ("due_at", "2200-01-01T00:00:00Z"),
    ("due_at", "1969-12-31T23:59:59Z"),
    ("due_at", "2027-02-30T00:00:00Z"),
    ("due_at", "2027-01-31T25:00:00Z"),
    ("owner_id", "bob"),
    ("id", 1),
    ("version", 9),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=lambda value: repr(value)[:30])
async def test_a_bad_field_is_named_and_nothing_is_written(
    client: httpx2.AsyncClient, field: str, value: object
) -> None:
    task = await create(client)
    path = f"{TASKS}/{task['id']}"
    for method, where, body in (("POST", TASKS, {"title": "x"}), ("PATCH", path, {}), ("PUT", path, FULL)):
        content = json.dumps(body | {field: value})  # escapes a lone surrogate, which httpx2 cannot encode
        response = await client.request(method, where, content=content, headers=ALICE | JSON)
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["field"] == field
    assert (await client.get(TASKS, headers=ALICE)).json()["items"] == [task]


@pytest.mark.parametrize("value", ["true", 1, 0, None, "yes"])
async def test_completed_takes_only_a_boolean(client: httpx2.AsyncClient, value: object) -> None:
    path = f"{TASKS}/{(await create(client))['id']}"
    assert (await client.patch(path, json={"completed": value}, headers=ALICE)).status_code == 422


@pytest.mark.parametrize(
    "title", ["'; DROP TABLE tasks; --", "🛒 אבא قهوة", "%s %(x)s {0}", "a\u202eb", "<script>", "x" * 200, "\\"]
)
async def test_any_text_comes_back_as_it_was_given(client: httpx2.AsyncClient, title: str) -> None:
    task = await create(client, title=title, description=title)
    assert (await client.get(f"{TASKS}/{task['id']}", headers=ALICE)).json() == task
    assert (task["title"], task["description"]) == (title, title)


async def test_due_times_of_any_offset_come_back_as_the_same_moment(client: httpx2.AsyncClient) -> None:
    task = await create(client, due_at="2027-01-31T09:00:00.123456+05:45")
    assert datetime.fromisoformat(task["due_at"]) == datetime.fromisoformat("2027-01-31T03:15:00.123456Z")
