"""Members read the trail of their engagement, and nobody else does: audit-worker beside a real task-api."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx2
import pytest
from tests.security.our_services import SECRET, consumer_beside, task_api_beside

from chassis.paths import MEMBERSHIP_PATH
from chassis.testing import bearer, deliver_until_taken, make_task_event, serving, settings_for
from devstack.throwaway import DatabaseFactory
from task_api.app import create_app as create_task_api
from task_api.settings import TaskApiSettings

API: Final = "/api/v1"
ENTRIES: Final = f"{API}/audit/entries"
NOBODYS: Final = 2**62
Json = dict[str, Any]
MEMBERS: Final = ("owner", "editor", "viewer")
# Who was in it and is not, never was, or has no account any more.
OTHERS: Final = ("removed", "left", "stranger", "gone")
THEIRS: Final = [1, 2, 5]
"""Entries of the engagement, counted from where the test begins."""


@dataclass
class House:
    """Both services, and an engagement of the founder's in which each of the roles is once; it has three entries."""

    tasks: httpx2.AsyncClient
    audit: httpx2.AsyncClient
    engagement: int
    before: int
    keys: dict[str, str]

    def credential(self, caller: str, kind: str) -> dict[str, str]:
        return bearer(caller) if kind == "token" else {"Authorization": f"Bearer {self.keys[caller]}"}

    async def make(self, path: str, body: object, by: str) -> Json:
        answer = await self.tasks.post(API + path, json=body, headers=bearer(by))
        assert answer.status_code in {200, 201, 204}, answer.text
        made: Json = answer.json() if answer.content else {}
        return made

    async def let_in(self, name: str, role: str) -> None:
        path = f"/engagements/{self.engagement}/invitations"
        token = (await self.make(path, {"role": role}, "founder"))["token"]
        await self.make("/engagements/invitations/accept", {"token": token}, name)

    async def remove(self, name: str) -> None:
        path = f"{API}/engagements/{self.engagement}/members/{name}"
        assert (await self.tasks.delete(path, headers=bearer("founder"))).status_code == 204

    async def read(self, headers: dict[str, str], query: str | None = None) -> httpx2.Response:
        query = f"engagement_id={self.engagement}" if query is None else query
        return await self.audit.get(f"{ENTRIES}?{query}", headers=headers)

    def task(self, number: int) -> int:
        return 10 * self.before + number

    def sequences(self, answer: httpx2.Response) -> list[int]:
        assert answer.status_code == 200, answer.text
        return [item["sequence"] - self.before for item in answer.json()["items"]]

    async def ask(self, content: str, secret: str | None = SECRET) -> httpx2.Response:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        return await self.tasks.post(MEMBERSHIP_PATH, content=content, headers=headers)


@pytest.fixture(scope="module")
async def services(databases: DatabaseFactory) -> AsyncIterator[House]:
    async with (
        task_api_beside(databases) as tasks,
        consumer_beside("audit-worker", databases, tasks.address) as audit,
    ):
        there = House(tasks.client, audit.client, 0, 0, {})
        await there.make("/engagements", {"name": "another"}, "stranger")
        key = {"name": "x", "scopes": ["audit:read"]}
        for name in (*MEMBERS, *OTHERS):
            there.keys[name] = (await there.make("/api-keys", key, name))["key"]
        yield there


@pytest.fixture
async def house(services: House) -> House:
    """An engagement in which each role is once and nobody of the others, with three entries among five."""
    everything = await services.read(bearer("olga", "auditor"), "total=true&limit=1")
    engagement = (await services.make("/engagements", {"name": "x"}, "founder"))["id"]
    assert engagement > 1, "not the one that the stranger is in"
    there = replace(services, engagement=engagement, before=everything.json()["total"])
    for name in MEMBERS:
        await there.let_in(name, name)
    for name in ("removed", "left"):
        await there.let_in(name, "owner")
    await there.remove("removed")
    await there.make(f"/engagements/{engagement}/leave", None, "left")
    # Tasks have ids that no other test has.
    for event in (
        entry(there, 1),
        entry(there, 2),
        make_task_event(there.task(8), owner_id="engagement:1", engagement_id=1),
        make_task_event(there.task(9), owner_id="viewer"),
        entry(there, 1, version=2),
    ):
        await deliver_until_taken(there.audit, event)
    return there


def entry(house: House, task_id: int, version: int = 1) -> Any:  # noqa: ANN401
    owner, members = f"engagement:{house.engagement}", ("founder", *MEMBERS)
    return make_task_event(
        house.task(task_id),
        version,
        owner_id=owner,
        engagement_id=house.engagement,
        actor_id="founder",
        recipients=members,
    )


def outcome(answer: httpx2.Response) -> tuple[int, str, str]:
    problem = answer.json()
    return answer.status_code, problem["code"], problem["detail"]


async def end_account(house: House, name: str) -> None:
    gone = await house.tasks.request("DELETE", f"{API}/users/me", json={"confirm": name}, headers=bearer(name))
    assert gone.status_code == 202, gone.text


async def test_each_role_reads_all_of_the_engagement_and_nobody_else_any(house: House) -> None:
    await house.let_in("gone", "owner")
    await end_account(house, "gone")
    for kind in ("token", "key"):
        for name in MEMBERS:
            assert house.sequences(await house.read(house.credential(name, kind))) == THEIRS, (name, kind)
        for name in OTHERS:
            if (name, kind) == ("gone", "key"):  # their keys ended with the account
                assert (await house.read(house.credential(name, kind))).status_code == 401
                continue
            said = f"You are not a member of engagement {house.engagement}."
            answer = await house.read(house.credential(name, kind))
            assert outcome(answer) == (403, "engagement_forbidden", said), (name, kind)
    assert (await house.read({})).status_code == 401
    for role in ("auditor", "admin"):
        assert house.sequences(await house.read(bearer("olga", role))) == THEIRS


async def test_a_refusal_is_told_in_the_words_of_task_api(house: House) -> None:
    for name in ("stranger", "removed", "left"):
        for engagement in (house.engagement, NOBODYS):
            query = f"engagement_id={engagement}"
            here = outcome(await house.read(bearer(name), query))
            there = outcome(await house.tasks.get(f"{API}/tasks?{query}", headers=bearer(name)))
            assert here == there
    assert outcome(await house.read(bearer("owner"), f"engagement_id={NOBODYS}"))[:2] == (404, "engagement_not_found")
    answer = await house.read(bearer("olga", "auditor"), f"engagement_id={NOBODYS}")
    assert house.sequences(answer) == [], "an auditor reads what the trail has, whether or not the engagement still is"


async def test_a_key_without_the_scope_reads_nothing_and_an_admins_key_is_of_no_admin(house: House) -> None:
    key = await house.make("/api-keys", {"name": "x", "scopes": ["tasks:read", "engagements:read"]}, "owner")
    answer = await house.read({"Authorization": f"Bearer {key['key']}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    new = {"name": "x", "scopes": ["audit:read"]}
    made = await house.tasks.post(f"{API}/api-keys", json=new, headers=bearer("root", "admin"))
    answer = await house.read({"Authorization": f"Bearer {made.json()['key']}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "engagement_forbidden")


@pytest.mark.parametrize("kind", ["token", "key"])
@pytest.mark.parametrize("name", MEMBERS)
async def test_whoever_is_removed_between_two_pages_reads_no_second_one(house: House, name: str, kind: str) -> None:
    query = f"engagement_id={house.engagement}&limit=2"
    first = await house.read(house.credential(name, kind), query)
    assert house.sequences(first) == [1, 2]
    query += f"&cursor={first.json()['next_cursor']}"
    assert house.sequences(await house.read(house.credential(name, kind), query)) == [5]
    await house.remove(name)
    answer = await house.read(house.credential(name, kind), query)
    assert (answer.status_code, answer.json()["code"]) == (403, "engagement_forbidden")
    await house.let_in(name, "viewer")
    assert house.sequences(await house.read(house.credential(name, kind))) == THEIRS, "and who is back reads all of it"


async def test_an_engagement_that_was_deleted_is_for_auditors_only(house: House) -> None:
    path = f"{API}/engagements/{house.engagement}"
    assert (await house.tasks.delete(path, headers=bearer("owner"))).status_code == 204
    assert outcome(await house.read(bearer("owner")))[:2] == (404, "engagement_not_found")
    assert house.sequences(await house.read(bearer("olga", "auditor"))) == THEIRS


async def test_one_list_is_one_space_with_a_task_and_without(house: House) -> None:
    viewer, engagement = bearer("viewer"), f"engagement_id={house.engagement}"
    own = [number for number in house.sequences(await house.read(viewer, "")) if number > 0]
    assert own == [4], "one's own, without the parameter"
    assert house.sequences(await house.read(viewer, f"task_id={house.task(1)}")) == [], (
        "a task of the engagement is not one's own"
    )
    assert house.sequences(await house.read(viewer, f"{engagement}&task_id={house.task(1)}")) == [1, 5]
    assert house.sequences(await house.read(viewer, f"{engagement}&task_id={house.task(9)}")) == [], (
        "nor the other way round"
    )
    assert house.sequences(await house.read(viewer, f"{engagement}&task_id={house.task(8)}")) == [], (
        "nor one of another engagement"
    )
    page = await house.read(viewer, f"{engagement}&task_id={house.task(1)}&limit=1&total=true")
    assert (house.sequences(page), page.json()["total"]) == ([1], 2)
    assert (await house.read(bearer("stranger"), f"{engagement}&task_id={house.task(1)}")).status_code == 403
    assert house.sequences(await house.read(bearer("olga", "auditor"), f"{engagement}&task_id={house.task(1)}")) == [
        1,
        5,
    ]


async def test_a_member_is_known_by_the_whole_name_whatever_is_in_it(house: House) -> None:
    for name in ("a&user_id=owner", "zoë+%20", "x" * 255):
        assert (await house.read(bearer(name))).status_code == 403
        await house.let_in(name, "viewer")
        assert house.sequences(await house.read(bearer(name))) == THEIRS


async def test_the_answer_to_our_services_says_what_somebody_may_do_and_no_more(house: House) -> None:
    engagement = f"engagement_id={house.engagement}"
    may = {
        "owner": ["manage", "moderate", "read", "write"], "editor": ["read", "write"], "viewer": ["read"],
        "removed": [], "left": [], "stranger": [], "gone": [],
    }  # fmt: skip
    for name, acts in may.items():
        answer = await house.ask(f"{engagement}&user_id={name}")
        assert (answer.status_code, answer.json()) == (200, {"found": True, "may": acts}), name
        assert answer.headers["Cache-Control"] == "no-store"
    answer = await house.ask(f"engagement_id={NOBODYS}&user_id=owner")
    assert (answer.status_code, answer.json()) == (200, {"found": False, "may": []})
    for content in (
        "", engagement, "user_id=owner", f"{engagement}&{engagement}&user_id=owner", f"{engagement}&user_id=",
        f"{engagement}&user_id=owner&user_id=viewer", f"{engagement}&user_id=engagement:1", f"{engagement}&user_id=%00",
        "engagement_id=0&user_id=owner", "engagement_id=-1&user_id=owner", f"engagement_id={2**63}&user_id=owner",
        "engagement_id=1x&user_id=owner", "engagement_id=%C2%B2&user_id=owner", "%ff=%ff", engagement + "&x=y" * 20,
        f"engagement_id={'9' * 5000}&user_id=owner",
    ):  # fmt: skip
        answer = await house.ask(content)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error"), content


async def test_it_answers_to_our_services_alone(house: House) -> None:
    question = f"engagement_id={house.engagement}&user_id=owner"
    token = bearer("owner", "admin")["Authorization"][7:]
    for secret in (None, "", SECRET[:-1], SECRET + "x", house.keys["owner"], token):
        answer = await house.ask(question, secret)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), secret
        assert "found" not in answer.text
    closed = create_task_api(settings_for(TaskApiSettings))
    async with serving(closed) as client:
        for secret in ("", "None", SECRET):
            answer = await client.post(MEMBERSHIP_PATH, headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == 401, "no secret is set: nobody may"
