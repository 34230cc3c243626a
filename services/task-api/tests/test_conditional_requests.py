"""ETag, If-None-Match, If-Match: nobody reads again what has not changed, or overwrites what they have not seen."""

import asyncio
from typing import Any

import httpx2
import pytest
from sqlmodel import func, select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent
from task_api.tasks.conditions import TagList, read_tags

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
REPLACEMENT: dict[str, Any] = {
    "title": "Pay rent",
    "description": None,
    "priority": "high",
    "due_at": None,
    "completed": False,
    "tags": [],
    "parent_id": None,
    "recurrence": None,
}
WRITES: list[tuple[str, str, object]] = [
    ("PUT", "", REPLACEMENT),
    ("PATCH", "", {"title": "Buy bread"}),
    ("DELETE", "", None),
    ("POST", "/toggle", None),
    ("POST", "/complete", None),
    ("POST", "/reopen", None),
    ("POST", "/restore", None),
]


@pytest.fixture
async def task(client: httpx2.AsyncClient) -> dict[str, Any]:
    response = await client.post(TASKS, json={"title": "Buy milk"}, headers=ALICE)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made | {"path": response.headers["location"], "etag": response.headers["etag"]}


async def events_of(database: Database) -> int:
    async with database.session() as session:
        return (await session.exec(select(func.count()).select_from(OutboxEvent))).one()


async def test_reading_and_writing_a_task_name_the_same_version(
    client: httpx2.AsyncClient, task: dict[str, Any]
) -> None:
    assert task["etag"] == f'"{task["id"]}-1"'
    assert (await client.get(task["path"], headers=ALICE)).headers["etag"] == task["etag"]
    changed = await client.patch(task["path"], json={"title": "Buy bread"}, headers=ALICE)
    assert changed.headers["etag"] == f'"{task["id"]}-2"'
    assert (await client.get(task["path"], headers=ALICE)).headers["etag"] == changed.headers["etag"]


@pytest.mark.parametrize("shape", ["{0}", "W/{0}", '"x", {0}', '"x",,W/{0} , "y"', "*"])
async def test_who_has_the_task_already_gets_304_without_a_body(
    client: httpx2.AsyncClient, task: dict[str, Any], shape: str
) -> None:
    headers = ALICE | {"If-None-Match": shape.format(task["etag"])}
    answer = await client.get(task["path"], headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")
    assert (answer.headers["etag"], answer.headers["cache-control"]) == (task["etag"], "private, no-cache")
    assert answer.headers["vary"] == "Authorization"
    await client.post(f"{task['path']}/toggle", headers=ALICE)
    if shape != "*":
        assert (await client.get(task["path"], headers=headers)).json()["completed"] is True


async def test_a_304_is_only_for_who_may_read(client: httpx2.AsyncClient, task: dict[str, Any]) -> None:
    answer = await client.get(task["path"], headers=BOB | {"If-None-Match": task["etag"]})
    assert answer.status_code == 403


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("condition", ['"1-99"', "W/{0}", '"x", W/{0}'], ids=["other", "weak", "weak in a list"])
async def test_a_write_meant_for_another_version_is_refused_and_changes_nothing(
    client: httpx2.AsyncClient,
    database: Database,
    task: dict[str, Any],
    method: str,
    path: str,
    body: object,
    condition: str,
) -> None:
    headers = ALICE | {"If-Match": condition.format(task["etag"])}
    answer = await client.request(method, task["path"] + path, json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert task["etag"] in answer.json()["detail"]
    assert (await client.get(task["path"], headers=ALICE)).headers["etag"] == task["etag"]
    assert await events_of(database) == 1


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("condition", ["{0}", "*", '"x", {0}'])
async def test_a_write_meant_for_this_version_is_done(
    client: httpx2.AsyncClient, task: dict[str, Any], method: str, path: str, body: object, condition: str
) -> None:
    headers = ALICE | {"If-Match": condition.format(task["etag"])}
    answer = await client.request(method, task["path"] + path, json=body, headers=headers)
    assert answer.status_code == (204 if method == "DELETE" else 200), answer.text


async def test_if_match_may_come_on_several_lines(client: httpx2.AsyncClient, task: dict[str, Any]) -> None:
    lines = [*ALICE.items(), ("If-Match", '"x"'), ("If-Match", task["etag"])]
    assert (await client.post(f"{task['path']}/toggle", headers=lines)).status_code == 200
    assert (await client.post(f"{task['path']}/toggle", headers=lines)).status_code == 412


async def test_if_none_match_refuses_a_write_to_what_is_there(client: httpx2.AsyncClient, task: dict[str, Any]) -> None:
    answer = await client.put(task["path"], json=REPLACEMENT, headers=ALICE | {"If-None-Match": "*"})
    assert answer.status_code == 412


async def test_what_is_not_there_or_not_ones_own_comes_before_any_condition(
    client: httpx2.AsyncClient, task: dict[str, Any]
) -> None:
    for headers, path, status in ((ALICE, f"{TASKS}/987654", 404), (BOB, task["path"], 403)):
        answer = await client.patch(path, json={}, headers=headers | {"If-Match": '"1-99"'})
        assert answer.status_code == status


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["", "3", "7-3", '"7-3', 'w/"7-3"', '"a" "b"', '*, "a"', ",", '"a";q=1', '"a b"'])
async def test_a_condition_that_cannot_be_read_is_refused_by_name(
    client: httpx2.AsyncClient, task: dict[str, Any], header: str, value: str
) -> None:
    answer = await client.patch(task["path"], json={"title": "x"}, headers=ALICE | {header: value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == f"header.{header}"


def test_a_tag_may_hold_commas_and_any_visible_character() -> None:
    assert read_tags("If-Match", ['"a,b", W/"\xe4!"', '"",']) == TagList(frozenset({'"a,b"', 'W/"\xe4!"', '""'}))
    assert read_tags("If-Match", []) is None


@pytest.mark.parametrize("rounds", [5])
async def test_of_two_patches_at_once_that_saw_the_same_version_one_wins(
    client: httpx2.AsyncClient, database: Database, task: dict[str, Any], rounds: int
) -> None:
    etag = task["etag"]
    for number in range(rounds):
        answers = await asyncio.gather(
            *(
                client.patch(task["path"], json={"title": f"{number} {name}"}, headers=ALICE | {"If-Match": etag})
                for name in "ab"
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412]
        (won,) = [answer for answer in answers if answer.status_code == 200]
        etag = won.headers["etag"]
        assert (await client.get(task["path"], headers=ALICE)).json() == won.json()
    assert await events_of(database) == 1 + rounds


async def test_complete_and_delete_at_once_both_happen_in_some_order(
    client: httpx2.AsyncClient, task: dict[str, Any]
) -> None:
    completed, deleted = await asyncio.gather(
        client.post(f"{task['path']}/complete", headers=ALICE), client.delete(task["path"], headers=ALICE)
    )
    assert deleted.status_code == 204
    assert completed.status_code in {200, 404}
    restored = (await client.post(f"{task['path']}/restore", headers=ALICE)).json()
    assert restored["completed"] == (completed.status_code == 200)
    assert restored["version"] == (4 if restored["completed"] else 3)


@pytest.mark.parametrize("path", ["", "?limit=x", "/987654", "/x"])
async def test_no_answer_may_be_kept_by_a_shared_cache(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(TASKS + path, headers=ALICE)
    assert (answer.headers["cache-control"], answer.headers["vary"]) == ("private, no-cache", "Authorization")
