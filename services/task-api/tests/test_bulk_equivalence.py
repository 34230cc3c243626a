"""A bulk is what its operations are one by one: any sequence, same answers, same tasks, same events."""

from typing import Any

import httpx2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from chassis.database import Database
from chassis.testing import bearer
from task_api.outbox.models import OutboxEvent

TASKS = "/api/v1/tasks"
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["", "a", "b", "  a ", "x" * 201]),
        "description": st.none() | st.sampled_from(["d", "e"]),
        "priority": st.sampled_from(["high", "low", "urgent"]),
        "due_at": st.none() | st.sampled_from(["2027-05-01T00:00:00Z", "tomorrow"]),
        "completed": st.booleans(),
    },
)
WHICH = st.fixed_dictionaries({"task": st.integers(0, 2)}, optional={"version": st.integers(1, 6)})
OPERATIONS = st.lists(
    st.one_of(
        st.builds(lambda which, changes: which | {"op": "update", "changes": changes}, WHICH, CHANGES),
        st.builds(
            lambda which, op: which | {"op": op}, WHICH, st.sampled_from(["complete", "reopen", "delete", "restore"])
        ),
    ),
    min_size=1,
    max_size=12,
)
NOT_COMPARED = {"id", "position", "created_at", "updated_at", "completed_at", "deleted_at"}


def comparable(task: dict[str, Any] | None) -> dict[str, Any] | None:
    """Give what two runs have in common: moments only as whether there is one."""
    if task is None:
        return None
    moments = {name: task.get(name) is not None for name in ("completed_at", "deleted_at")}
    return {name: value for name, value in task.items() if name not in NOT_COMPARED} | moments


class Account:
    """Somebody with two tasks; the third is someone else's."""

    def __init__(self, client: httpx2.AsyncClient, name: str) -> None:
        self.client, self.name, self.headers = client, name, bearer(name)
        self.ids: list[int] = []

    async def open(self) -> None:
        for headers in (self.headers, self.headers, bearer("somebody")):
            made = await self.client.post(TASKS, json={"title": "a"}, headers=headers)
            self.ids.append(made.json()["id"])

    async def one_by_one(self, operations: list[dict[str, Any]]) -> list[Any]:
        answers = []
        for operation in operations:
            task_id = self.ids[operation["task"]]
            condition = {"If-Match": f'"{task_id}-{operation["version"]}"'} if "version" in operation else {}
            headers = self.headers | condition
            path, op = f"{TASKS}/{task_id}", operation["op"]
            if op == "update":
                answer = await self.client.patch(path, json=operation["changes"], headers=headers)
            elif op == "delete":
                answer = await self.client.delete(path, headers=headers)
            else:
                answer = await self.client.post(f"{path}/{op}", headers=headers)
            body: Any = answer.json() if answer.content else None
            refused = answer.status_code >= 400
            fields = [error["field"] for error in body.get("errors", [])] if refused else []
            shown = body["code"] if refused else comparable(body)
            answers.append((answer.status_code, shown, fields))
        return answers

    async def at_once(self, operations: list[dict[str, Any]]) -> list[Any]:
        wanted = [
            {name: value for name, value in operation.items() if name != "task"} | {"id": self.ids[operation["task"]]}
            for operation in operations
        ]
        answer = await self.client.post(f"{TASKS}/bulk", json={"operations": wanted}, headers=self.headers)
        assert answer.status_code == 200, answer.text
        answers = []
        for result in answer.json()["results"]:
            error = result["error"]
            fields = [item["field"].removeprefix("changes.") for item in (error and error["errors"]) or []]
            answers.append((result["status"], error["code"] if error else comparable(result["task"]), fields))
        return answers

    async def events(self, database: Database) -> list[Any]:
        async with database.session() as session:
            order = ("aggregate_id", "aggregate_version")
            rows = (await session.exec(select(OutboxEvent).order_by(*order))).all()
        return [
            (
                self.ids.index(row.aggregate_id),
                row.aggregate_version,
                row.type,
                comparable(row.payload["task"] | {"owner_id": None}),
                sorted(row.payload["changes"]),
            )
            for row in rows
            if row.aggregate_id in self.ids
        ]


@given(operations=OPERATIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_bulk_does_what_its_operations_do_one_by_one(
    client: httpx2.AsyncClient, database: Database, operations: list[dict[str, Any]]
) -> None:
    single, together = Account(client, "single"), Account(client, "together")
    await single.open()
    await together.open()
    assert await together.at_once(operations) == await single.one_by_one(operations)
    assert await together.events(database) == await single.events(database)
    for mine, theirs in zip(together.ids, single.ids, strict=True):
        shown = [
            await client.get(f"{TASKS}/{task_id}", headers=account.headers)
            for task_id, account in ((mine, together), (theirs, single))
        ]
        assert shown[0].status_code == shown[1].status_code
        if shown[0].status_code == 200:
            assert comparable(shown[0].json()) == comparable(shown[1].json())
