"""Random lives of tasks over HTTP: after every request the service says what a simple model says.

That is: every field, every version, every list and filter, exactly one event for each version, and a feed of changes
that makes the same tasks. `LIFECYCLE_EXAMPLES=500` plays more lives, other ones each time, and seeks the shortest that
shows what it found.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.contract.running import running
from tests.lifecycle.model import DAILY, Model, RefusedError

from chassis.testing import bearer
from devstack.polling import within
from devstack.throwaway import DatabaseFactory

TASKS: Final = "/api/v1/tasks"
EXAMPLES: Final = int(os.environ.get("LIFECYCLE_EXAMPLES", "25"))
THOROUGH: Final = "LIFECYCLE_EXAMPLES" in os.environ
STEPS: Final = 20
PATIENCE: Final = 90.0
COMPARED: Final = (
    "title", "description", "priority", "due_at", "tags", "parent_id", "recurrence", "completed", "version",
)  # fmt: skip
FILTERS: Final[list[tuple[str, Callable[[Mapping[str, Any]], bool]]]] = [
    ("completed=true", lambda task: task["completed"]),
    ("completed=false", lambda task: not task["completed"]),
    ("priority=high&priority=low", lambda task: task["priority"] != "medium"),
    ("tag=home&tag=deep work", lambda task: {"home", "deep work"} <= set(task["tags"])),
    ("tag=home&tag=deep work&tag_match=any", lambda task: bool(task["tags"])),
    ("top_level=true", lambda task: task["parent_id"] is None),
    ("due_before=2100-06-01T00:00:00Z", lambda task: task["due_at"] is not None and task["due_at"] < "2100-06"),
    ("q=mi", lambda task: "milk" in task["title"].lower()),
]

# One of the tasks there are: which, is found out by division.
ONE = st.integers(0, 11)
FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "title": st.sampled_from(["milk", "Milk and bread", "Call Ann"]),
    "description": st.none() | st.just("two litres"),
    "priority": st.sampled_from(["high", "medium", "low"]),
    "due_at": st.none() | st.sampled_from(["2100-03-01T08:00:00Z", "2101-03-01T08:00:00Z"]),
    "tags": st.sampled_from([[], ["home"], ["deep work", "home"]]),
    "parent_id": st.none() | ONE,
    "recurrence": st.none() | st.just(DAILY),
}
SET = FIELDS | {"completed": st.booleans()}
DRAFT = st.fixed_dictionaries(
    {"title": FIELDS["title"]}, optional={name: FIELDS[name] for name in FIELDS if name != "title"}
)
CHANGES = st.fixed_dictionaries({}, optional=SET)
WHOLE = st.fixed_dictionaries(SET)
MATCH = st.sampled_from([None, None, None, "right", "stale"])
AGAIN = st.sampled_from([False, False, True])
OPERATION = st.one_of(
    st.fixed_dictionaries({"op": st.just("create"), "task": DRAFT}),
    st.fixed_dictionaries({"op": st.just("update"), "id": ONE, "changes": CHANGES, "match": MATCH}),
    st.fixed_dictionaries(
        {"op": st.sampled_from(["complete", "reopen", "delete", "restore"]), "id": ONE, "match": MATCH}
    ),
)


@dataclass
class Outbox:
    """The events of the service's database, for a machine that is in another thread than the connection."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    loop: asyncio.AbstractEventLoop

    def events(self, owner: str) -> list[tuple[int, int, str, dict[str, Any]]]:
        sql = (
            "SELECT aggregate_id, aggregate_version, type, payload FROM outbox "
            "WHERE payload->'task'->>'owner_id' = $1 ORDER BY aggregate_id, aggregate_version"
        )
        rows = asyncio.run_coroutine_threadsafe(self.connection.fetch(sql, owner), self.loop).result(PATIENCE)
        return [(row[0], row[1], row[2], json.loads(row[3])["task"]) for row in rows]


@dataclass
class There:
    """What all lives have in common."""

    client: httpx2.Client
    outbox: Outbox
    owners: Iterator[int] = field(default_factory=itertools.count)
    requests: int = 0
    steps: int = 0


def shown(task: Mapping[str, Any]) -> dict[str, Any]:
    return {name: task[name] for name in COMPARED}


class Life(RuleBasedStateMachine):
    """One person's tasks."""

    there: There

    def __init__(self) -> None:
        super().__init__()
        self.owner = f"owner-{next(self.there.owners)}"
        self.headers = bearer(self.owner)
        self.model, self.copy = Model(), dict[int, dict[str, Any]]()
        self.cursor: str | None = None
        self.turn = 0

    # What is done.

    @initialize()
    def begin_with_a_family(self) -> None:
        """Start with a tree, one of whose tasks comes again: what goes along with what would else be rare."""
        for parent, recurrence in ((None, None), (0, None), (1, DAILY), (None, None)):
            due = "2100-03-01T08:00:00Z" if recurrence else None
            draft = {"title": "milk", "parent_id": parent, "recurrence": recurrence, "due_at": due}
            self.create(draft=draft, again=False)

    @rule(draft=DRAFT, again=AGAIN)
    def create(self, draft: dict[str, Any], again: bool) -> None:
        wanted = self.with_parent(draft)
        self.send("POST", "", wanted, lambda model: model.create(wanted), again=again)

    @precondition(lambda self: self.model.tasks)
    @rule(which=ONE, changes=CHANGES, match=MATCH, again=AGAIN)
    def patch(self, which: int, changes: dict[str, Any], match: str | None, again: bool) -> None:
        task_id, wanted = self.one(which), self.with_parent(changes)
        self.send("PATCH", f"/{task_id}", wanted, lambda model: model.change(task_id, wanted), task_id, match, again)

    @precondition(lambda self: self.model.tasks)
    @rule(which=ONE, whole=WHOLE, match=MATCH, again=AGAIN)
    def put(self, which: int, whole: dict[str, Any], match: str | None, again: bool) -> None:
        task_id, wanted = self.one(which), self.with_parent(whole)
        self.send("PUT", f"/{task_id}", wanted, lambda model: model.change(task_id, wanted), task_id, match, again)

    @precondition(lambda self: self.model.tasks)
    @rule(which=ONE, how=st.sampled_from(["toggle", "complete", "reopen"]), match=MATCH, again=AGAIN)
    def switch(self, which: int, how: str, match: str | None, again: bool) -> None:
        task_id = self.one(which)

        def apply(model: Model) -> None:
            now = {"toggle": not model.tasks[task_id].fields["completed"], "complete": True, "reopen": False}
            model.change(task_id, {"completed": now[how]})

        self.send("POST", f"/{task_id}/{how}", None, apply, task_id, match, again)

    @precondition(lambda self: self.model.tasks)
    @rule(which=ONE, match=MATCH, again=AGAIN)
    def delete(self, which: int, match: str | None, again: bool) -> None:
        task_id = self.one(which)
        self.send("DELETE", f"/{task_id}", None, lambda model: model.delete(task_id), task_id, match, again)

    @precondition(lambda self: self.model.tasks)
    @rule(which=ONE, match=MATCH, again=AGAIN)
    def restore(self, which: int, match: str | None, again: bool) -> None:
        task_id = self.one(which)
        self.send("POST", f"/{task_id}/restore", None, lambda model: model.restore(task_id), task_id, match, again)

    @precondition(lambda self: self.model.tasks)
    @rule(gone=ONE, back=ONE)
    def delete_and_restore(self, gone: int, back: int) -> None:
        """Mostly the same, or one below or above it."""
        self.delete(which=gone, match=None, again=False)
        self.restore(which=gone if back % 3 else back, match=None, again=False)

    @precondition(lambda self: len(self.model.alive()) > 1)
    @rule(which=ONE, by=st.integers(1, 10), side=st.sampled_from(["after", "before"]))
    def move(self, which: int, by: int, side: str) -> None:
        alive = sorted(self.model.alive())
        at = which % len(alive)
        task_id, other = alive[at], alive[(at + 1 + by % (len(alive) - 1)) % len(alive)]
        if task_id == other:
            return
        answer = self.request("POST", f"/{task_id}/move", {side: other})
        assert answer.status_code == 200, answer.text
        position: str = answer.json()["position"]
        places = {one: task.fields["position"] for one, task in self.model.alive().items() if one != task_id}
        assert (position > places[other]) == (side == "after")
        between = sorted((position, places[other]))
        assert not [one for one, place in places.items() if between[0] < place < between[1]]
        self.model.moved(task_id, position)
        self.check_events()

    @precondition(lambda self: self.model.tasks)
    @rule(operations=st.lists(OPERATION, min_size=1, max_size=6), again=AGAIN)
    def bulk(self, operations: list[dict[str, Any]], again: bool) -> None:
        wanted = [self.operation(one) for one in operations]
        model, expected = self.model.begin(), list[tuple[int, str | None]]()
        for one in wanted:
            after = model.begin()
            try:
                expected.append(self.apply(after, one))
                model = after
            except RefusedError as refused:
                expected.append((refused.status, refused.code))
        body = {"operations": wanted}
        answer = self.request("POST", "/bulk", body, again=again)
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert [(one["status"], one["error"] and one["error"]["code"]) for one in results] == expected, wanted
        self.take_over(model)

    # What must hold.

    @invariant()
    def lists_show_the_model(self) -> None:
        everything = {task_id: task.fields | {"version": task.version} for task_id, task in self.model.alive().items()}
        listed = self.listed("sort=position")
        assert {task["id"]: shown(task) for task in listed} == {one: shown(task) for one, task in everything.items()}
        places = {task_id: task.fields["position"] for task_id, task in self.model.alive().items()}
        assert [task["id"] for task in listed] == sorted(places, key=lambda one: (places[one], one))
        self.turn += 1
        query, holds = FILTERS[self.turn % len(FILTERS)]
        found = {task["id"] for task in self.listed(query)}
        assert found == {task_id for task_id, task in everything.items() if holds(task)}, query

    @invariant()
    def the_feed_makes_the_same_tasks(self) -> None:
        def same() -> bool:
            more = True
            while more:
                query = {"cursor": self.cursor} if self.cursor else {}
                page = self.there.client.get(f"{TASKS}/changes", params=query, headers=self.headers).json()
                for item in page["items"]:
                    self.copy.pop(item["id"], None)
                    if item["task"] is not None:
                        self.copy[item["id"]] = shown(item["task"])
                self.cursor, more = page["next_cursor"], page["has_more"]
            return self.copy == {
                one: shown(task.fields | {"version": task.version}) for one, task in self.model.alive().items()
            }

        async def asked() -> bool:
            return same()

        # The feed stops at the oldest open transaction, and others write too: the relay does.
        assert same() or asyncio.run(within(PATIENCE, asked, 0.05))

    # How it is asked and compared.

    def one(self, which: int) -> int:
        return sorted(self.model.tasks)[which % len(self.model.tasks)]

    def with_parent(self, fields: dict[str, Any]) -> dict[str, Any]:
        which = fields.get("parent_id")
        if which is None:
            return fields
        return fields | {"parent_id": self.one(which) if self.model.tasks else None}

    def operation(self, drawn: dict[str, Any]) -> dict[str, Any]:
        wanted = {name: value for name, value in drawn.items() if name != "match"}
        for name in ("task", "changes"):
            if name in wanted:
                wanted[name] = self.with_parent(wanted[name])
        if "id" in wanted:
            wanted["id"] = self.one(wanted["id"])
        if drawn.get("match"):
            wanted["version"] = self.model.tasks[wanted["id"]].version + (drawn["match"] == "stale")
        return wanted

    @staticmethod
    def apply(model: Model, wanted: dict[str, Any]) -> tuple[int, str | None]:
        if wanted["op"] == "create":
            model.create(wanted["task"])
            return 201, None
        task_id = wanted["id"]
        if wanted["op"] != "restore":
            model.there(task_id)
        model.check_version(task_id, wanted.get("version"))
        match wanted["op"]:
            case "update":
                model.change(task_id, wanted["changes"])
            case "complete" | "reopen":
                model.change(task_id, {"completed": wanted["op"] == "complete"})
            case "delete":
                model.delete(task_id)
                return 204, None
            case _:
                model.restore(task_id)
        return 200, None

    def send(
        self,
        method: str,
        path: str,
        body: object,
        apply: Callable[[Model], None],
        task_id: int | None = None,
        match: str | None = None,
        again: bool = False,
    ) -> None:
        """Send a write, and do the same to the model."""
        model, headers = self.model.begin(), dict[str, str]()
        expected: tuple[int, str | None] = (
            {"POST": 201 if task_id is None else 200, "DELETE": 204}.get(method, 200),
            None,
        )
        if match and task_id is not None:
            version = self.model.tasks[task_id].version + (match == "stale")
            headers["If-Match"] = f'"{task_id}-{version}"'
        try:
            if task_id is not None:
                if not path.endswith("/restore"):
                    model.there(task_id)
                model.check_version(task_id, self.model.tasks[task_id].version + 1 if match == "stale" else None)
            apply(model)
        except RefusedError as refused:
            model, expected = self.model, (refused.status, refused.code)
        answer = self.request(method, path, body, headers, again=again)
        code = answer.json()["code"] if answer.status_code >= 400 else None
        assert (answer.status_code, code) == expected, answer.text
        self.take_over(model)
        if answer.status_code < 300 and answer.content:
            task = answer.json()
            known = self.model.tasks[task["id"]]
            assert shown(task) == shown(known.fields | {"version": known.version})
            assert answer.headers["ETag"] == f'"{task["id"]}-{task["version"]}"'

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        again: bool = False,
    ) -> httpx2.Response:
        """Send a request; `again`: twice under one key, of which the second must change nothing and say the same."""
        sent = self.headers | dict(headers or {})
        if again:
            sent["Idempotency-Key"] = f"key-{self.there.requests}"
        self.there.requests += 1
        answer = self.there.client.request(method, TASKS + path, json=body, headers=sent)
        if again and answer.status_code < 300:
            replayed = self.there.client.request(method, TASKS + path, json=body, headers=sent)
            assert (replayed.status_code, replayed.content) == (answer.status_code, answer.content)
            assert replayed.headers["Idempotent-Replayed"] == "true"
        return answer

    def take_over(self, model: Model) -> None:
        """Let the model be what it became, with the ids that the service gave, and compare the events."""
        events = self.there.outbox.events(self.owner)
        made = sorted({task_id for task_id, _, _, _ in events} - model.tasks.keys())
        assert len(made) == len(model.new), "one new task for each that is made, or comes again"
        model.name(made)
        self.model = model
        for task_id in made:
            position = next(task["position"] for one, version, _, task in events if (one, version) == (task_id, 1))
            assert self.model.tasks[task_id].fields.setdefault("position", position) == position
        self.check_events()

    def check_events(self) -> None:
        """Exactly one event for each version of each task, and the last shows the task as it is."""
        self.there.steps += 1
        events = self.there.outbox.events(self.owner)
        assert [event[:3] for event in events] == sorted(self.model.events)
        last = {task_id: payload for task_id, _, _, payload in events}
        for task_id, payload in last.items():
            task = self.model.tasks[task_id]
            assert shown(payload) == shown(task.fields | {"version": task.version})
            assert (payload["deleted_at"] is None) == (task.deleted_by is None)

    def listed(self, query: str) -> list[dict[str, Any]]:
        answer = self.there.client.get(f"{TASKS}?limit=200&{query}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


# The service runs in a thread of this process, and shares Python's random numbers with what makes the requests.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
async def test_tasks_live_as_the_documentation_says(databases: DatabaseFactory) -> None:
    async with running("task-api", databases) as service:
        connection = await asyncpg.connect(service.database_url, ssl=False)
        try:
            with httpx2.Client(base_url=service.address, timeout=PATIENCE) as client:
                there = There(client, Outbox(connection, asyncio.get_running_loop()))
                life = type("Life", (Life,), {"there": there})
                bounds = settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    derandomize=not THOROUGH,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate, *([Phase.shrink] if THOROUGH else [])],
                    suppress_health_check=list(HealthCheck),
                )
                await asyncio.to_thread(run_state_machine_as_test, life, settings=bounds)
        finally:
            await connection.close()
    assert there.steps > EXAMPLES, "a life in which nothing happens shows nothing"
