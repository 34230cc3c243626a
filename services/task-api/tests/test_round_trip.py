"""Any tasks at all: exported, imported by another user and exported again, they say the same."""

import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import bearer

TASKS = "/api/v1/tasks"
TYPES = {"json": "application/json", "csv": "text/csv"}
NOT_KEPT = {"id", "parent_id", "updated_at", "position", "version"}
AWKWARD = "=+-@'\"\t\r\n,;\\\uff1d {}[]\u202e\u05d0\u0627\U0001f469\u200d\U0001f52c\u0301"
ANY = st.sampled_from(AWKWARD) | st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
TEXTS = st.text(ANY, min_size=1, max_size=12)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30)).map(  # noqa: DTZ001  (UTC is added)
    lambda moment: moment.replace(tzinfo=UTC).isoformat()
)
RECURRENCES = st.fixed_dictionaries(
    {
        "rule": st.sampled_from(["FREQ=DAILY", "FREQ=MONTHLY;BYMONTHDAY=-1", "FREQ=YEARLY;UNTIL=19700201T000000Z"]),
        "anchor": st.sampled_from(["due", "completion"]),
        "time_zone": st.sampled_from(["UTC", "Europe/Paris", "Asia/Kathmandu"]),
    },
    optional={"at": st.just("02:30:00")},
)
# An empty description is none in CSV, which cannot tell the two apart.
A_TASK = st.fixed_dictionaries(
    {"title": TEXTS.filter(str.strip), "due_at": MOMENTS, "completed": st.booleans()},
    optional={
        "description": TEXTS,
        "priority": st.sampled_from(["high", "medium", "low"]),
        "tags": st.lists(st.text("ab,\\='\u05d0\U0001f469 ", min_size=1, max_size=5).filter(str.strip), max_size=3),
        "recurrence": RECURRENCES,
        "created_at": MOMENTS,
    },
)
names = count()


def a_tree(tasks: list[dict[str, Any]], depths: list[int]) -> list[dict[str, Any]]:
    """Put tasks below each other: each at most one level deeper than the one before it."""
    line: list[int] = []
    for number, (task, depth) in enumerate(zip(tasks, depths, strict=False)):
        del line[min(depth, len(line)) :]
        task |= {"id": number, "parent_id": line[-1] if line else None}
        line.append(number)
    return tasks


def said_by(exported: bytes) -> list[dict[str, Any]]:
    tasks = json.loads(exported)["tasks"]
    places = {task["id"]: place for place, task in enumerate(tasks)} | {None: None}
    return [
        {name: value for name, value in task.items() if name not in NOT_KEPT} | {"above": places[task["parent_id"]]}
        for task in tasks
    ]


@pytest.mark.parametrize("form", ["json", "csv"])
@given(tasks=st.lists(A_TASK, min_size=1, max_size=6), depths=st.lists(st.integers(0, 4), min_size=6, max_size=6))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_what_is_exported_and_imported_by_another_is_exported_the_same(
    client: httpx2.AsyncClient, form: str, tasks: list[dict[str, Any]], depths: list[int]
) -> None:
    number = next(names)
    alice, bob = bearer(f"alice-{number}"), bearer(f"bob-{number}")

    async def take_in(user: dict[str, str], content: bytes, form: str) -> None:
        headers = user | {"Content-Type": TYPES[form], "Idempotency-Key": "k"}
        report = (await client.post(f"{TASKS}/import", content=content, headers=headers)).json()
        assert (report["created"], report["problems"]) == (len(tasks), [])

    async def exported(user: dict[str, str], form: str) -> bytes:
        return (await client.get(f"{TASKS}/export?format={form}", headers=user)).content

    original = {"format": "taskwire-tasks", "version": 1, "tasks": a_tree(tasks, depths)}
    await take_in(alice, json.dumps(original).encode(), "json")
    await take_in(bob, await exported(alice, form), form)
    first, second = said_by(await exported(alice, "json")), said_by(await exported(bob, "json"))
    assert [task["title"] for task in first] == [task["title"].strip() for task in tasks]
    assert first == second
