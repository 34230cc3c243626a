"""Whoever guesses the id of somebody else's thing gets nothing, changes nothing, and learns nothing (IDOR).

Walks every operation of every service that takes an id in its path. A parameter that is not known here fails: who adds
one says what it is the id of.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from tests.e2e.coming_back import PATIENCE
from tests.e2e.conftest import Person
from tests.security.conftest import Enter
from tests.security.test_guards import apps
from typing_extensions import override

from devstack.polling import within

Json = dict[str, Any]
SECRET: Final = "the-victims-own-words"
PREFIX: Final = "/api/v1"
NOBODYS: Final = defaultdict(lambda: str(2**62), erasure_id="00000000-0000-4000-8000-000000000000")
OPEN_BY_TOKEN: Final = {"token"}
"""Parameters that are credentials themselves: guessing one is `test_guessed_credentials`."""


@dataclass(frozen=True)
class Operation:
    """An operation that takes ids in its path."""

    service: str
    method: str
    path: str
    example: Json | None

    @override
    def __str__(self) -> str:
        return f"{self.service} {self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return [part.split("}")[0] for part in self.path.split("{")[1:]]


def operations() -> Iterator[Operation]:
    for service, app in apps():
        for path, item in app.openapi()["paths"].items():
            for method, operation in item.items():
                if path.startswith(PREFIX) and "{" in path:
                    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
                    yield Operation(service, method.upper(), path, _example(body) if body else None)


def _example(body: Json) -> Json:
    found: Json = body["example"] if "example" in body else next(iter(body["examples"].values()))["value"]
    return found


REACHABLE: Final = [one for one in operations() if not OPEN_BY_TOKEN & set(one.parameters)]


@dataclass(frozen=True)
class Belongings:
    """One of everything that has an id, all the victim's."""

    ids: dict[str, int | str]
    task: Json


@pytest.fixture
async def belongings(victim: Person, enter: Enter) -> Belongings:
    task = await victim.create_task(f"{SECRET} in a title", description=SECRET, tags=[SECRET])
    deleted = await victim.create_task(f"{SECRET} deleted")
    assert (await victim.ask("DELETE", f"/tasks/{deleted['id']}")).status_code == 204
    comment = await victim.ask("POST", f"/tasks/{task['id']}/comments", {"body": SECRET})
    feed = await victim.ask("POST", "/calendar-feeds", {"name": SECRET})
    key = await victim.ask("POST", "/api-keys", {"name": SECRET, "scopes": ["tasks:read", "tasks:write"]})
    engagement = await victim.ask("POST", "/engagements", {"name": SECRET})
    made = {"comment_id": comment, "feed_id": feed, "key_id": key, "engagement_id": engagement}
    invitations = f"/engagements/{engagement.json()['id']}/invitations"
    made["invitation_id"] = await victim.ask("POST", invitations, {"role": "owner"})
    assert [one.status_code for one in made.values()] == [201] * 5, [one.text for one in made.values()]
    told: list[Json] = []

    async def notified() -> bool:
        told[:] = await victim.notifications()
        return len(told) >= 3

    async def changes_are_told() -> bool:  # once nobody writes who began before: the relay does, for a moment
        changes = (await victim.ask("GET", "/tasks/changes")).json()["items"]
        alive = {one["id"] for one in changes if one["task"] is not None}
        return task["id"] in alive and deleted["id"] not in alive

    assert await within(PATIENCE, notified, 0.1)
    assert await within(PATIENCE, changes_are_told, 0.1)
    ids: dict[str, int | str] = {name: response.json()["id"] for name, response in made.items()}
    ids |= {"task_id": task["id"], "user_id": victim.name}
    leaver = enter("leaver")
    erasure = await leaver.ask("DELETE", "/users/me", {"confirm": leaver.name})
    assert erasure.status_code == 202, erasure.text
    ids |= {"erasure_id": erasure.json()["id"]}
    return Belongings(ids | {"notification_id": told[0]["id"], "letter_id": 1}, task)


async def everything(victim: Person) -> list[Json]:
    """What the victim sees of their own; an attack leaves it as it is."""
    seen = []
    for path in (
        "/tasks?completed=false",
        "/tasks?completed=true",
        "/calendar-feeds",
        "/engagements",
        "/api-keys",
        "/completions",
        "/tasks/changes",
    ):
        response = await victim.ask("GET", path)
        assert response.status_code == 200, response.text
        found: Json = response.json()
        seen.append({name: value for name, value in found.items() if "cursor" not in name})
    return seen + [(await victim.ask("GET", f"/tasks/{task['id']}/comments")).json() for task in seen[0]["items"]]


@pytest.mark.parametrize("operation", REACHABLE, ids=str)
async def test_somebody_elses_id_gives_nothing(
    victim: Person, attacker: Person, belongings: Belongings, operation: Operation
) -> None:
    before = await everything(victim)
    response = await attacker.ask(
        operation.method,
        operation.path.removeprefix(PREFIX).format(**belongings.ids),
        operation.example,
        service=operation.service,
    )
    assert response.status_code in {403, 404}, response.text
    assert SECRET not in response.text
    assert victim.name not in response.text
    assert await everything(victim) == before


@pytest.mark.parametrize("operation", [one for one in REACHABLE if "letter_id" not in one.parameters], ids=str)
async def test_an_id_that_nobody_has_is_not_found(attacker: Person, operation: Operation) -> None:
    response = await attacker.ask(
        operation.method,
        operation.path.removeprefix(PREFIX).format_map(NOBODYS),
        operation.example,
        service=operation.service,
    )
    assert response.status_code == 404, response.text


async def test_ids_in_bodies_reach_no_further_than_ids_in_paths(
    victim: Person, attacker: Person, belongings: Belongings
) -> None:
    own, foreign = await attacker.create_task("mine"), belongings.task["id"]
    before = await everything(victim)
    attempts: list[tuple[str, str, Json]] = [
        ("POST", "/tasks", {"title": "below a foreign one", "parent_id": foreign}),
        ("PATCH", f"/tasks/{own['id']}", {"parent_id": foreign}),
        ("POST", f"/tasks/{own['id']}/move", {"after": foreign}),
        ("POST", f"/tasks/{own['id']}/move", {"before": foreign}),
        ("PATCH", f"/tasks/{own['id']}", {"owner_id": victim.name}),
        ("POST", "/tasks", {"title": "a present", "owner_id": victim.name}),
        ("POST", "/tasks", {"title": "a number of my choice", "id": foreign}),
    ]
    for method, path, body in attempts:
        response = await attacker.ask(method, path, body)
        assert response.status_code == 422, (path, body, response.text)
        assert SECRET not in response.text
    assert await everything(victim) == before


@pytest.mark.parametrize("kind", ["update", "complete", "reopen", "delete", "restore"])
async def test_a_bulk_reaches_no_further_either(
    victim: Person, attacker: Person, belongings: Belongings, kind: str
) -> None:
    before = await everything(victim)
    step: Json = {"op": kind, "id": belongings.task["id"]} | (
        {"changes": {"title": "taken"}} if kind == "update" else {}
    )
    response = await attacker.ask("POST", "/tasks/bulk", {"operations": [step]})
    assert response.status_code in {200, 207}, response.text
    assert [result["status"] for result in response.json()["results"]] == [403]
    assert SECRET not in response.text
    assert await everything(victim) == before


async def test_a_cursor_of_somebody_else_opens_nothing(victim: Person, attacker: Person) -> None:
    for number in range(3):
        await victim.create_task(f"{SECRET} {number}")
        await attacker.create_task(f"{number}")
    for path in ("/tasks?limit=1", "/tasks/changes?limit=1"):
        page = (await victim.ask("GET", path)).json()
        cursor = page.get("next_cursor") or page["cursor"]
        response = await attacker.ask("GET", f"{path}&cursor={cursor}")
        assert response.status_code == 422, response.text
        assert SECRET not in response.text


async def test_an_idempotency_key_of_somebody_else_replays_nothing(victim: Person, attacker: Person) -> None:
    key = {"Idempotency-Key": secrets.token_hex(16)}
    url, body = f"{victim.urls['task-api']}{PREFIX}/tasks", {"title": SECRET}
    first = await victim.http.post(url, json=body, headers=key)
    second = await attacker.http.post(url, json=body, headers=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert (await attacker.ask("GET", f"/tasks/{second.json()['id']}")).status_code == 200


@pytest.mark.parametrize("name", ["alice%20", "%00", "..%2f..%2f", "x' OR '1'='1"])
async def test_the_trail_and_the_inbox_take_no_word_of_the_caller_for_who_they_are(
    victim: Person, attacker: Person, belongings: Belongings, name: str
) -> None:
    assert belongings.ids
    for service, path in (("audit-worker", "/audit/entries"), ("notifier", "/notifications"), ("task-api", "/tasks")):
        for claim in (f"owner_id={victim.name}", f"user_id={victim.name}", f"owner_id={name}"):
            response = await attacker.ask("GET", f"{path}?{claim}", service=service)
            assert response.status_code in {200, 422}, response.text
            assert SECRET not in response.text


async def test_the_trail_of_somebody_elses_engagement_is_not_to_be_read(
    victim: Person, attacker: Person, belongings: Belongings
) -> None:
    engagement = belongings.ids["engagement_id"]
    task = await victim.create_task(f"{SECRET} in an engagement", engagement_id=engagement)
    query = f"/audit/entries?engagement_id={engagement}"

    async def recorded() -> bool:
        return SECRET in (await victim.ask("GET", query, service="audit-worker")).text

    assert await within(PATIENCE, recorded, 0.1)
    for path in (query, f"{query}&task_id={task['id']}", f"{query}&total=true"):
        response = await attacker.ask("GET", path, service="audit-worker")
        assert (response.status_code, response.json()["code"]) == (403, "engagement_forbidden")
        assert SECRET not in response.text
    response = await attacker.ask("GET", f"/audit/entries?task_id={task['id']}", service="audit-worker")
    assert response.json()["items"] == []


def test_the_walk_goes_through_what_has_ids() -> None:
    known = {"task_id", "comment_id", "feed_id", "key_id", "notification_id", "letter_id", "erasure_id"}
    known |= {"engagement_id", "invitation_id", "user_id"}
    assert {name for one in REACHABLE for name in one.parameters} == known
    assert len(REACHABLE) >= 28
