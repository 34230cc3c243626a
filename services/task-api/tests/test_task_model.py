"""Subtasks and recurrence as a frontend sees them, and the events of all that changes with a task."""

import asyncio
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlmodel import col, select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
Item = dict[str, Any]
DAILY = {"rule": "FREQ=DAILY", "anchor": "due", "time_zone": "Europe/Paris"}
FAR_DUE = "2100-03-27T08:00:00Z"


async def create(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, **fields: object) -> Item:
    response = await client.post(TASKS, json={"title": "Buy milk"} | fields, headers=headers)
    assert response.status_code == 201, response.text
    task: Item = response.json()
    return task


async def post(client: httpx2.AsyncClient, task: Item, action: str, **body: object) -> Item:
    response = await client.post(f"{TASKS}/{task['id']}/{action}", json=body or None, headers=ALICE)
    assert response.status_code == 200, response.text
    changed: Item = response.json()
    return changed


async def patch(client: httpx2.AsyncClient, task: Item, **body: object) -> httpx2.Response:
    return await client.patch(f"{TASKS}/{task['id']}", json=body, headers=ALICE)


async def all_of(client: httpx2.AsyncClient, **query: str) -> list[Item]:
    response = await client.get(TASKS, params=query | {"limit": "200"}, headers=ALICE)
    assert response.status_code == 200, response.text
    items: list[Item] = response.json()["items"]
    return items


async def events_in(database: Database) -> list[tuple[int, int, str]]:
    async with database.session() as session:
        events = (await session.exec(select(OutboxEvent).order_by(col(OutboxEvent.id)))).all()
    return [(event.aggregate_id, event.aggregate_version, event.type) for event in events]


# Subtasks


async def test_tasks_nest_five_levels_deep(client: httpx2.AsyncClient) -> None:
    line = [await create(client)]
    for _ in range(4):
        line.append(await create(client, parent_id=line[-1]["id"]))
    answer = await client.post(TASKS, json={"title": "x", "parent_id": line[-1]["id"]}, headers=ALICE)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parent")
    assert "5 levels" in answer.json()["errors"][0]["message"]
    pair = await create(client)
    await create(client, parent_id=pair["id"])
    assert (await patch(client, pair, parent_id=line[3]["id"])).status_code == 422  # its subtask would be the sixth
    assert (await patch(client, pair, parent_id=line[2]["id"])).status_code == 200
    below = {task["id"] for task in await all_of(client, parent_id=str(line[2]["id"]))}
    assert below == {line[3]["id"], pair["id"]}
    assert (await patch(client, pair, parent_id=None)).json()["parent_id"] is None


async def test_a_task_is_never_below_itself(client: httpx2.AsyncClient) -> None:
    a = await create(client)
    b = await create(client, parent_id=a["id"])
    c = await create(client, parent_id=b["id"])
    for parent in (a, b, c):
        answer = await patch(client, a, parent_id=parent["id"])
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parent")


@pytest.mark.parametrize("_attempt", range(5))
async def test_two_tasks_put_below_each_other_at_once_make_no_circle(client: httpx2.AsyncClient, _attempt: int) -> None:
    a, b = await create(client), await create(client)
    answers = await asyncio.gather(patch(client, a, parent_id=b["id"]), patch(client, b, parent_id=a["id"]))
    assert sorted(answer.status_code for answer in answers) == [200, 422]


async def test_only_an_own_task_that_is_there_can_be_above(client: httpx2.AsyncClient) -> None:
    task, gone = await create(client), await create(client)
    bobs = await create(client, BOB)
    await client.delete(f"{TASKS}/{gone['id']}", headers=ALICE)
    for parent in (bobs["id"], gone["id"], 987654):
        answers = [
            await patch(client, task, parent_id=parent),
            await client.post(TASKS, json={"title": "x", "parent_id": parent}, headers=ALICE),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parent")
            assert answer.json()["errors"] == [{"field": "parent_id", "message": "must be the id of an own task"}]


async def family(client: httpx2.AsyncClient) -> tuple[Item, Item, Item, Item]:
    top = await create(client)
    middle = await create(client, parent_id=top["id"])
    return top, middle, await create(client, parent_id=middle["id"]), await create(client)


async def test_completing_a_task_completes_what_is_open_below_it_and_reopening_leaves_that(
    client: httpx2.AsyncClient, database: Database
) -> None:
    top, middle, low, other = await family(client)
    done = await create(client, parent_id=top["id"])
    await post(client, done, "complete")
    before = len(await events_in(database))
    await post(client, top, "complete")
    assert {task["id"] for task in await all_of(client, completed="false")} == {other["id"]}
    expected = [(task["id"], 2, "task.completed") for task in (top, middle, low)]
    assert (await events_in(database))[before:] == expected
    await post(client, top, "reopen")
    assert {task["id"] for task in await all_of(client, completed="false")} == {other["id"], top["id"]}


async def test_deleting_a_task_deletes_what_is_below_it(client: httpx2.AsyncClient, database: Database) -> None:
    top, middle, low, other = await family(client)
    before = len(await events_in(database))
    assert (await client.delete(f"{TASKS}/{top['id']}", headers=ALICE)).status_code == 204
    assert [task["id"] for task in await all_of(client)] == [other["id"]]
    assert (await events_in(database))[before:] == [(task["id"], 2, "task.deleted") for task in (top, middle, low)]


async def test_a_subtask_that_comes_while_its_parent_is_deleted_is_refused_or_deleted_too(
    client: httpx2.AsyncClient,
) -> None:
    for _ in range(5):
        top = await create(client)
        await asyncio.gather(
            client.delete(f"{TASKS}/{top['id']}", headers=ALICE),
            *(client.post(TASKS, json={"title": "x", "parent_id": top["id"]}, headers=ALICE) for _ in range(3)),
        )
    assert await all_of(client) == []


# Recurrence


async def test_completing_a_recurring_task_makes_the_next_one_in_the_same_transaction(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task = await create(client, due_at=FAR_DUE, recurrence=DAILY, tags=["home"], priority="high", description="2 l")
    done = await post(client, task, "complete")
    assert done["recurrence"] is None
    (following,) = await all_of(client, completed="false")
    same = {"title", "description", "priority", "tags", "recurrence", "parent_id", "position"}
    assert {name: following[name] for name in same} == {name: task[name] for name in same}
    assert following["due_at"] == "2100-03-28T07:00:00Z", "nine in the morning in Paris, in summer time too"
    assert (await events_in(database))[1:] == [
        (task["id"], 2, "task.completed"),
        (following["id"], 1, "task.created"),
    ]
    async with database.session() as session:
        events = (await session.exec(select(OutboxEvent).order_by(col(OutboxEvent.id)))).all()
    assert events[1].payload["corr_id"] == events[2].payload["corr_id"]
    assert events[2].payload["task"]["recurrence"] == DAILY


async def test_completing_at_once_or_again_makes_one_next_task(client: httpx2.AsyncClient) -> None:
    task = await create(client, due_at=FAR_DUE, recurrence=DAILY)
    await asyncio.gather(*(post(client, task, "complete") for _ in range(6)))
    await post(client, task, "reopen")
    await post(client, task, "complete")
    await patch(client, task, completed=False)
    assert (await patch(client, task, completed=True)).status_code == 200
    assert len(await all_of(client)) == 2


async def test_a_count_is_used_up(client: httpx2.AsyncClient) -> None:
    await create(client, due_at=FAR_DUE, recurrence=DAILY | {"rule": "FREQ=DAILY;COUNT=3"})
    rules = []
    while still_open := await all_of(client, completed="false"):
        (task,) = still_open
        rules.append(task["recurrence"]["rule"])
        await post(client, task, "complete")
    assert rules == [f"FREQ=DAILY;COUNT={left}" for left in (3, 2, 1)]


async def test_a_subtask_that_is_completed_with_its_parent_does_not_come_again(client: httpx2.AsyncClient) -> None:
    top = await create(client)
    await create(client, parent_id=top["id"], due_at=FAR_DUE, recurrence=DAILY)
    await post(client, top, "complete")
    assert await all_of(client, completed="false") == []


async def test_a_patch_merges_inside_of_recurrence_too(client: httpx2.AsyncClient) -> None:
    task = await create(client, due_at=FAR_DUE, recurrence=DAILY)
    for changed in ({"rule": "FREQ=WEEKLY"}, {"anchor": "completion"}, {"time_zone": "Asia/Tokyo"}):
        after = (await patch(client, task, recurrence=changed)).json()
        assert after["recurrence"] == task["recurrence"] | changed
        task = after
    assert (await patch(client, task, recurrence=None)).json()["recurrence"] is None
    answer = await patch(client, task, recurrence={"anchor": "due"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_recurrence")


BAD_RULES = [
    ("FREQ=SECONDLY", "DAILY, WEEKLY, MONTHLY or YEARLY"),
    ("FREQ=HOURLY", "DAILY, WEEKLY, MONTHLY or YEARLY"),
    ("INTERVAL=2", "needs FREQ"),
    ("", "may have the parts"),
    ("FREQ=DAILY;BYSECOND=1", "may have the parts"),
    ("FREQ=DAILY;BYEASTER=1", "may have the parts"),
    ("FREQ=DAILY;INTERVAL=101", "at most 100"),
    ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
    ("FREQ=DAILY;COUNT=1001", "at most 1000"),
    ("FREQ=DAILY;FREQ=DAILY", "twice"),
    ("FREQ=DAILY;COUNT=2;UNTIL=20990101", "both"),
    ("FREQ=DAILY;UNTIL=20991301", "no date"),
    ("FREQ=DAILY;BYMONTHDAY=30", "MONTHLY and YEARLY"),
    ("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY"),
    ("FREQ=WEEKLY;BYDAY=2MO", "MONTHLY and YEARLY"),
    ("FREQ=WEEKLY;BYDAY=\u0662MO", "BYDAY"),
    ("FREQ=YEARLY;BYMONTH=13", "BYMONTH"),
    ("FREQ=DAILY\x00", "NUL"),
    ("FREQ=🛒", "FREQ"),
    ("FREQ=MONTHLY;BYMONTHDAY=" + ",".join("1" * 100), "at most 200 characters"),
]
NEVER = [
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=31",
    "FREQ=DAILY;INTERVAL=7;BYDAY=MO,TU,WE",
    "FREQ=DAILY;UNTIL=20200101",
    "FREQ=YEARLY;INTERVAL=100",
]


@pytest.mark.parametrize(("rule", "words"), BAD_RULES, ids=lambda value: str(value)[:40])
async def test_a_rule_that_explodes_or_makes_no_sense_is_refused(
    client: httpx2.AsyncClient, rule: str, words: str
) -> None:
    body = {"title": "x", "due_at": FAR_DUE, "recurrence": DAILY | {"rule": rule}}
    response = await client.post(TASKS, json=body, headers=ALICE)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "recurrence.rule"
    assert words in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("rule", NEVER)
async def test_a_rule_that_never_comes_again_is_refused(client: httpx2.AsyncClient, rule: str) -> None:
    body = {"title": "x", "due_at": FAR_DUE, "recurrence": DAILY | {"rule": rule}}
    response = await client.post(TASKS, json=body, headers=ALICE)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_recurrence")
    task = await create(client, due_at=FAR_DUE)
    assert (await patch(client, task, recurrence=body["recurrence"])).status_code == 422
    assert await all_of(client) == [task]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"time_zone": "Mars/Olympus"}, "recurrence.time_zone"),
        ({"time_zone": "../../etc/passwd"}, "recurrence.time_zone"),
        ({"time_zone": "a\x00b"}, "recurrence.time_zone"),
        ({"anchor": "start"}, "recurrence.anchor"),
        ({"until": 1}, "recurrence.until"),
        ({"rule": None}, "recurrence.rule"),
    ],
)
async def test_a_bad_recurrence_is_named(client: httpx2.AsyncClient, changed: Item, field: str) -> None:
    body = {"title": "x", "due_at": FAR_DUE, "recurrence": DAILY | changed}
    response = await client.post(TASKS, json=body, headers=ALICE)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_what_recurs_from_its_due_date_has_one(client: httpx2.AsyncClient) -> None:
    response = await client.post(TASKS, json={"title": "x", "recurrence": DAILY}, headers=ALICE)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_recurrence")
    task = await create(client, due_at=FAR_DUE, recurrence=DAILY)
    assert (await patch(client, task, due_at=None)).status_code == 422
    assert (await patch(client, task, due_at=None, completed=True)).status_code == 422, "completed at once, too"
    assert (await patch(client, task, due_at=None, recurrence={"anchor": "completion"})).status_code == 200


async def test_a_tree_has_at_most_500_tasks(client: httpx2.AsyncClient, database: Database) -> None:
    top, other = await create(client), await create(client)
    fill = """
        INSERT INTO tasks (owner_id, title, priority, completed, parent_id, version, created_at, updated_at)
        SELECT 'alice', 'x', 'low', false, :top, 1, now(), now() FROM generate_series(1, 498)
    """
    async with database.session() as session:
        await (await session.connection()).execute(text(fill), {"top": top["id"]})
        await session.commit()
    assert (await patch(client, other, parent_id=top["id"])).status_code == 200
    answer = await client.post(TASKS, json={"title": "x", "parent_id": other["id"]}, headers=ALICE)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parent")
    assert "500 tasks" in answer.json()["errors"][0]["message"]
    await post(client, top, "complete")
    assert await all_of(client, completed="false") == []
    assert len(await events_in(database)) == 503
