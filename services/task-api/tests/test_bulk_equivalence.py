"""A bulk is what its operations are one by one: any sequence, same answers, same tasks, same events."""

import itertools
from typing import Any

import httpx2
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent

TASKS = "/api/v1/tasks"
OWN = 4
"""So many tasks, one of them below another; the one after them is someone else's."""
DAILY = {"rule": "FREQ=DAILY"}
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["", "a", "b", "  a ", "x" * 201]),
        "description": st.none() | st.sampled_from(["d", "e"]),
        "priority": st.sampled_from(["high", "low", "urgent"]),
        "due_at": st.none() | st.sampled_from(["2100-05-01T00:00:00Z", "tomorrow"]),
        "completed": st.booleans(),
        "recurrence": st.none() | st.sampled_from([DAILY, {"rule": "FREQ=DAILY;COUNT=2"}, {"rule": "FREQ=NEVER"}]),
        "parent_id": st.none() | st.integers(0, OWN),
    },
)
# Mostly the one with others below it, and mostly whatever its version: else little would ever go along with it.
TASK = st.sampled_from([0, 0, 0, *range(OWN + 1)])
UNVERSIONED = st.fixed_dictionaries({"task": TASK})
WHICH = st.one_of(
    UNVERSIONED, UNVERSIONED, UNVERSIONED, st.fixed_dictionaries({"task": TASK, "version": st.integers(1, 6)})
)
STATES = ["complete", "reopen", "delete", "restore", "restore"]
OPERATION = st.one_of(
    st.builds(lambda which, changes: which | {"op": "update", "changes": changes}, WHICH, CHANGES),
    st.builds(lambda which, op: which | {"op": op}, WHICH, st.sampled_from(STATES)),
)
# What a bulk finds done, it knows from the database alone; drawn, it is mostly done once more in the bulk itself, so
# that there are also examples in which it is not.
BEFORE = st.lists(st.builds(lambda which, op: which | {"op": op}, UNVERSIONED, st.sampled_from(STATES)), max_size=2)
ACCOUNTS = itertools.count()
NOT_COMPARED = {"id", "parent_id", "position", "created_at", "updated_at", "completed_at", "deleted_at"}


class Account:
    """Somebody with some tasks: the second is below the first, the third comes again, the last is someone else's."""

    def __init__(self, client: httpx2.AsyncClient, name: str) -> None:
        self.client, self.name, self.headers = client, name, bearer(name)
        self.ids: list[int] = []

    async def open(self) -> None:
        for number in range(OWN + 1):
            fields: dict[str, Any] = {"title": "a"}
            if number == 1:
                fields["parent_id"] = self.ids[0]
            if number == 2:
                fields |= {"recurrence": DAILY, "due_at": "2100-01-01T00:00:00Z", "parent_id": self.ids[0]}
            headers = bearer("somebody") if number == OWN else self.headers
            made = await self.client.post(TASKS, json=fields, headers=headers)
            self.ids.append(made.json()["id"])

    def changes(self, operation: dict[str, Any]) -> dict[str, Any]:
        """Give the changes of an update, with the id of the task that it is put below."""
        changes: dict[str, Any] = operation["changes"]
        which = changes.get("parent_id")
        return changes if which is None else changes | {"parent_id": self.ids[which]}

    def number(self, task_id: int | None) -> int | None:
        """Say which of the account's tasks it is; one that came again is called by where it comes after them."""
        return None if task_id is None else self.ids.index(task_id)

    def comparable(self, task: dict[str, Any] | None) -> dict[str, Any] | None:
        """Give what two runs have in common: tasks by number, moments only as whether there is one."""
        if task is None:
            return None
        moments = {name: task.get(name) is not None for name in ("completed_at", "deleted_at")}
        rest = {name: value for name, value in task.items() if name not in NOT_COMPARED}
        return rest | moments | {"parent": self.number(task["parent_id"])}

    async def one_by_one(self, operations: list[dict[str, Any]]) -> list[Any]:
        answers = []
        for operation in operations:
            task_id = self.ids[operation["task"]]
            condition = {"If-Match": f'"{task_id}-{operation["version"]}"'} if "version" in operation else {}
            headers = self.headers | condition
            path, op = f"{TASKS}/{task_id}", operation["op"]
            if op == "update":
                answer = await self.client.patch(path, json=self.changes(operation), headers=headers)
            elif op == "delete":
                answer = await self.client.delete(path, headers=headers)
            else:
                answer = await self.client.post(f"{path}/{op}", headers=headers)
            body: Any = answer.json() if answer.content else None
            refused = answer.status_code >= 400
            fields = [error["field"] for error in body.get("errors", [])] if refused else []
            shown = body["code"] if refused else self.comparable(body)
            answers.append((answer.status_code, shown, fields))
        return answers

    async def at_once(self, operations: list[dict[str, Any]]) -> list[Any]:
        wanted = []
        for operation in operations:
            one = {name: value for name, value in operation.items() if name != "task"}
            changes = {"changes": self.changes(operation)} if "changes" in operation else {}
            wanted.append(one | changes | {"id": self.ids[operation["task"]]})
        answer = await self.client.post(f"{TASKS}/bulk", json={"operations": wanted}, headers=self.headers)
        assert answer.status_code == 200, answer.text
        answers = []
        for result in answer.json()["results"]:
            error = result["error"]
            fields = [item["field"].removeprefix("changes.") for item in (error and error["errors"]) or []]
            answers.append((result["status"], error["code"] if error else self.comparable(result["task"]), fields))
        return answers

    async def events(self, database: Database) -> list[Any]:
        async with database.session() as session:
            order = ("aggregate_id", "aggregate_version")
            rows = (await session.exec(select(OutboxEvent).order_by(*order))).all()
        mine = [row for row in rows if row.payload["task"]["owner_id"] == self.name or row.aggregate_id in self.ids]
        self.ids += sorted({row.aggregate_id for row in mine} - {*self.ids})  # those that came again
        return [
            (
                self.number(row.aggregate_id),
                row.aggregate_version,
                row.type,
                self.comparable(row.payload["task"] | {"owner_id": None}),
                sorted(row.payload["changes"]),
            )
            for row in mine
        ]


@example(before=[{"task": 0, "op": "delete"}], operations=[{"task": 0, "op": "restore"}])
@example(before=[{"task": 0, "op": "complete"}], operations=[{"task": 0, "op": "reopen"}])
@example(before=[], operations=[{"task": 0, "op": "complete"}])
@example(before=[], operations=[{"task": 0, "op": "delete"}])
@given(before=BEFORE, operations=st.lists(OPERATION, min_size=1, max_size=12))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_a_bulk_does_what_its_operations_do_one_by_one(
    client: httpx2.AsyncClient, database: Database, before: list[dict[str, Any]], operations: list[dict[str, Any]]
) -> None:
    number = next(ACCOUNTS)
    single, together = Account(client, f"single-{number}"), Account(client, f"together-{number}")
    await single.open()
    await together.open()
    assert await together.one_by_one(before) == await single.one_by_one(before)
    assert await together.at_once(operations) == await single.one_by_one(operations)
    assert await together.events(database) == await single.events(database)
    for mine, theirs in zip(together.ids, single.ids, strict=True):
        shown = [
            await client.get(f"{TASKS}/{task_id}", headers=account.headers)
            for task_id, account in ((mine, together), (theirs, single))
        ]
        assert shown[0].status_code == shown[1].status_code
        if shown[0].status_code == 200:
            assert together.comparable(shown[0].json()) == single.comparable(shown[1].json())
