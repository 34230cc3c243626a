"""Lists: every combination of filters and keys against a model in Python, walked by cursors; and what is refused."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import bearer, serving, settings_for
from task_api.app import create_app
from task_api.settings import TaskApiSettings

TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
NOON = datetime(2027, 5, 1, 12, tzinfo=UTC)
WORDS = ["milk", "milky", "Bread", "ÄPFEL", "אבא", "🛒", "state-of-the-art", "a.example/b"]
TAGS = ["home", "deep work", "o'clock\\", "קניות"]
Item = dict[str, Any]


async def create(client: httpx2.AsyncClient, headers: dict[str, str] = ALICE, **fields: object) -> Item:
    response = await client.post(TASKS, json={"title": "Buy milk"} | fields, headers=headers)
    assert response.status_code == 201, response.text
    task: Item = response.json()
    return task


async def listed(client: httpx2.AsyncClient, **query: str | int | bool | list[str]) -> list[Item]:
    response = await client.get(TASKS, params=query, headers=ALICE)
    assert response.status_code == 200, response.text
    items: list[Item] = response.json()["items"]
    return items


async def walked(client: httpx2.AsyncClient, query: Mapping[str, Any], limit: int) -> list[Item]:
    """Go through all pages of a list."""
    seen: list[Item] = []
    cursor: dict[str, str] = {}
    while True:
        page = await client.get(TASKS, params={**query, "limit": limit, "total": True, **cursor}, headers=ALICE)
        assert page.status_code == 200, page.text
        seen += page.json()["items"]
        if page.json()["next_cursor"] is None:
            assert page.json()["total"] == len(seen)
            return seen
        assert len(page.json()["items"]) == limit
        cursor = {"cursor": page.json()["next_cursor"]}


@pytest.fixture
async def tasks(client: httpx2.AsyncClient) -> list[Item]:
    """Alice's forty tasks, many of them alike; and one of Bob that must never be seen."""
    await create(client, BOB, tags=TAGS, due_at="2027-05-01T12:00:00Z")
    made = []
    for number in range(40):
        due = None if number % 4 == 0 else (NOON + timedelta(days=number % 5 - 2)).isoformat()
        task = await create(
            client,
            title=f"{WORDS[number % 8]} {WORDS[number % 3]}",
            description=WORDS[number % 5] if number % 2 else None,
            priority=("high", "medium", "low")[number % 3],
            due_at=due if number < 30 else "2020-01-01T00:00:00Z",
            tags=TAGS[: number % 5],
        )
        if number % 6 == 0:
            task = (await client.post(f"{TASKS}/{task['id']}/complete", headers=ALICE)).json()
        made.append(task)
    deleted = await create(client, tags=TAGS)
    await client.delete(f"{TASKS}/{deleted['id']}", headers=ALICE)
    return made


def moment(text: str | None) -> datetime:
    return datetime.max.replace(tzinfo=UTC) if text is None else datetime.fromisoformat(text)


def words(task: Item) -> list[str]:
    text = f"{task['title']} {task['description'] or ''}".lower()
    return "".join(" " if character in "-./" else character for character in text).split()


KEYS: dict[str, Callable[[Item], Any]] = {
    "created_at": lambda task: (moment(task["created_at"]), task["id"]),
    "updated_at": lambda task: moment(task["updated_at"]),
    "due_at": lambda task: moment(task["due_at"]),
    "priority": lambda task: ["low", "medium", "high"].index(task["priority"]),
    "title": lambda task: task["title"].lower(),
    "position": lambda task: task["position"],
}
FILTERS: dict[str, Callable[[Item, Any], bool]] = {
    "completed": lambda task, wanted: task["completed"] == wanted,
    "priority": lambda task, wanted: task["priority"] in wanted,
    "due_after": lambda task, wanted: task["due_at"] is not None and moment(task["due_at"]) >= moment(wanted),
    "due_before": lambda task, wanted: task["due_at"] is not None and moment(task["due_at"]) < moment(wanted),
    "overdue": lambda task, wanted: (not task["completed"] and moment(task["due_at"]) < datetime.now(UTC)) == wanted,
    "updated_since": lambda task, wanted: moment(task["updated_at"]) >= moment(wanted),
    "q": lambda task, wanted: all(
        any(word.startswith(part) for word in words(task) + task["tags"]) for part in wanted.lower().split()
    ),
}
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "completed": st.booleans(),
        "priority": st.lists(st.sampled_from(["high", "medium", "low"]), min_size=1, max_size=2, unique=True),
        "due_after": st.sampled_from(["2027-04-30T12:00:00Z", "2027-05-01T14:00:00+02:00"]),
        "due_before": st.sampled_from(["2027-05-01T12:00:00Z", "2027-05-02T12:00:00.000001Z", "2199-12-31T00:00:00Z"]),
        "overdue": st.booleans(),
        "updated_since": st.sampled_from(["2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z"]),
        "q": st.sampled_from(["mil", "MILK bre", "äpf", "אב", "🛒", "art of", "example", "deep", "zzz"]),
        "tag": st.lists(st.sampled_from(TAGS), min_size=1, max_size=3, unique=True),
        "tag_match": st.sampled_from(["all", "any"]),
    },
)
SORTS = st.lists(st.tuples(st.sampled_from(list(KEYS)), st.booleans()), max_size=4, unique_by=lambda sort: sort[0])


def expected(tasks: list[Item], query: Mapping[str, Any], sorts: list[tuple[str, bool]]) -> list[int]:
    found = [task for task in tasks if all(FILTERS[name](task, query[name]) for name in query if name in FILTERS)]
    if "tag" in query:
        combine = any if query.get("tag_match") == "any" else all
        found = [task for task in found if combine(tag in task["tags"] for tag in query["tag"])]
    sorts = sorts or [("created_at", True)]
    last, down = sorts[-1]
    for key, descending in [*sorts, ("created_at", down != (last == "priority"))][::-1]:
        found.sort(key=KEYS[key], reverse=descending)
    return [task["id"] for task in found]


@given(query=QUERIES, sorts=SORTS, limit=st.integers(3, 50))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_any_filters_in_any_order_list_what_a_model_lists(
    client: httpx2.AsyncClient, tasks: list[Item], query: dict[str, Any], sorts: list[tuple[str, bool]], limit: int
) -> None:
    sort = {"sort": ",".join(f"{'-' * down}{key}" for key, down in sorts)} if sorts else {}
    seen = [task["id"] for task in await walked(client, query | sort, limit)]
    wanted = expected(tasks, query, sorts)
    if "q" in query and not sorts:  # then the best match comes first
        seen, wanted = sorted(seen), sorted(wanted)
    assert seen == wanted


async def test_tags_are_tidied_and_each_is_there_once(client: httpx2.AsyncClient) -> None:
    task = await create(client, tags=["  Home ", "HOME", "Deep\t Work", "a\u0301"])
    assert task["tags"] == ["home", "deep work", "\u00e1"]
    assert await listed(client, tag=" DEEP  work") == [task]
    assert await listed(client, tag="deep") == []


BAD_TAGS: list[tuple[object, str, str]] = [
    ([""], "tags.0", "blank"),
    (["  "], "tags.0", "blank"),
    (["x" * 51], "tags.0", "at most 50 characters"),
    (["x" * 201], "tags.0", "at most 200 characters"),
    (["a\x00b"], "tags.0", "control"),
    (["a\x07b"], "tags.0", "control"),
    ([str(number) for number in range(21)], "tags", "at most 20 items"),
    ([7], "tags.0", "string"),
    ([None], "tags.0", "string"),
    ("home", "tags", "list"),
    (None, "tags", "list"),
]


@pytest.mark.parametrize(("tags", "field", "words"), BAD_TAGS, ids=lambda value: str(value)[:20])
async def test_a_bad_tag_is_named_with_its_limit(
    client: httpx2.AsyncClient, tags: object, field: str, words: str
) -> None:
    response = await client.post(TASKS, json={"title": "x", "tags": tags}, headers=ALICE)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert words in response.json()["errors"][0]["message"]


async def test_pages_stay_apart_while_tasks_come_before_and_after_them(client: httpx2.AsyncClient) -> None:
    old = [await create(client, due_at=f"2027-05-{day:02}T00:00:00Z") for day in (10, 12, 12, 12, 14, 16)]
    seen: list[int] = []
    query: dict[str, Any] = {"sort": "due_at", "limit": 2}
    while True:
        page = (await client.get(TASKS, params=query, headers=ALICE)).json()
        seen += [task["id"] for task in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
        await create(client, due_at="2027-05-01T00:00:00Z")
        await client.delete(f"{TASKS}/{seen[-1]}", headers=ALICE)  # the very task that the cursor was made of
    assert seen == [task["id"] for task in old]


async def test_a_cursor_holds_for_its_query_and_user_alone_and_in_every_replica(
    client: httpx2.AsyncClient, database_url: str
) -> None:
    for _ in range(3):
        await create(client, tags=["b", "a"])
        await create(client, BOB)
    mine: dict[str, Any] = {"tag": ["a", "b"], "sort": "-priority,due_at", "limit": 1}
    cursor = (await client.get(TASKS, params=mine, headers=ALICE)).json()["next_cursor"]

    async def answer(query: Mapping[str, Any], headers: dict[str, str] = ALICE) -> tuple[int, str | None]:
        response = await client.get(TASKS, params={**query, "cursor": cursor}, headers=headers)
        return response.status_code, response.json().get("code")

    assert await answer(mine) == (200, None)
    assert await answer(mine | {"limit": 2, "tag": ["b", "a"], "total": True}) == (200, None)
    for other in (mine | {"sort": "priority,due_at"}, mine | {"tag": ["a"]}, mine | {"completed": False}, {}):
        assert await answer(other) == (422, "cursor_mismatch")
    assert await answer(mine, BOB) == (422, "cursor_mismatch")
    async with serving(create_app(settings_for(TaskApiSettings, database_url))) as replica:
        page = await replica.get(TASKS, params={**mine, "cursor": cursor}, headers=ALICE)
        assert page.status_code == 200
    secret: dict[str, Any] = {"cursor_secret": "another secret of 32 bytes or more"}
    async with serving(create_app(settings_for(TaskApiSettings, database_url, **secret))) as stranger:
        page = await stranger.get(TASKS, params={**mine, "cursor": cursor}, headers=ALICE)
        assert (page.status_code, page.json()["code"]) == (422, "invalid_cursor")


async def test_no_byte_of_a_cursor_can_be_changed(client: httpx2.AsyncClient) -> None:
    for _ in range(2):
        await create(client)
    cursor = (await client.get(TASKS, params={"limit": 1}, headers=ALICE)).json()["next_cursor"]
    data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    altered = [bytes((*data[:at], data[at] ^ 1, *data[at + 1 :])) for at in range(len(data))]
    forged = [base64.urlsafe_b64encode(one).decode().rstrip("=") for one in (*altered, data[:-1], data + b" ", b"")]
    answers = await asyncio.gather(*(client.get(TASKS, params={"cursor": one}, headers=ALICE) for one in forged))
    for response in answers:
        assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")
        assert response.json()["errors"][0]["field"] == "query.cursor"


BAD_QUERIES = [
    ("sort=nonsense", "created_at, updated_at, due_at"),
    ("sort=", "created_at"),
    ("sort=due_at,", "created_at"),
    ("sort=--due_at", "created_at"),
    ("sort=due_at,-due_at", "twice"),
    ("sort=due_at,title,priority,position,created_at", "at most 4 keys"),
    ("sort=" + "x" * 101, "at most 100 characters"),
    ("sort=relevance", "needs q"),
    ("priority=urgent", "'high', 'medium' or 'low'"),
    ("priority=high&priority=low&priority=high&priority=low", "at most 3 items"),
    ("due_after=tomorrow", "RFC 3339"),
    ("due_before=2200-01-01T00:00:00Z", "between 1970 and 2199"),
    ("due_before=0001-01-01T00:00:00%2B14:00", "between 1970 and 2199"),
    ("updated_since=9999-12-31T23:59:59-14:00", "between 1970 and 2199"),
    ("updated_since=1800000000", "RFC 3339"),
    ("overdue=maybe", "boolean"),
    ("q=" + "x" * 201, "at most 200 characters"),
    ("q=a+b+c+d+e+f+g+h+i+j+k", "at most 10 words"),
    ("q=%00", "NUL"),
    ("tag=", "blank"),
    ("&".join(f"tag={number}" for number in range(11)), "at most 10 items"),
    ("tag_match=none", "'all' or 'any'"),
    ("parent_id=0", "greater than or equal to 1"),
    ("parent_id=9223372036854775808", "less than or equal to"),
    ("top_level=7", "boolean"),
    ("limit=201", "less than or equal to 200"),
    ("cursor=" + "A" * 2001, "at most 2000 characters"),
]


@pytest.mark.parametrize(("query", "words"), BAD_QUERIES, ids=lambda value: str(value)[:40])
async def test_what_a_list_cannot_do_is_named_with_its_limit(
    client: httpx2.AsyncClient, query: str, words: str
) -> None:
    response = await client.get(f"{TASKS}?{query}", headers=ALICE)
    assert response.status_code == 422, response.text
    problem = response.json()["errors"][0]
    assert problem["field"].split(".")[:2] == ["query", query.split("=", maxsplit=1)[0]]
    assert words in problem["message"]
