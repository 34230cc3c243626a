"""Who is in an engagement while others change it: each write is either before the change, or refused after it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import httpx2
import pytest
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import Database
from chassis.testing import PATIENCE, bearer
from devstack.polling import within
from task_api.engagements import access, invitations, service
from task_api.engagements.roles import Act
from task_api.engagements.spaces import Space

TASKS, ENGAGEMENTS = "/api/v1/tasks", "/api/v1/engagements"
ALICE, BOB, CAROL = (bearer(name) for name in ("alice", "bob", "carol"))
WAITING: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
MakeEngagement = Callable[..., Awaitable[int]]


async def waiting(database: Database, count: int = 1) -> None:
    """Wait until so many statements of others wait for a lock."""

    async def so_many() -> bool:
        async with database.session() as session:
            statement = text(f"{WAITING} AND wait_event_type = 'Lock'")
            return bool(await (await session.connection()).scalar(statement) >= count)

    assert await within(PATIENCE, so_many, 0.02)


@asynccontextmanager
async def held(database: Database, statement: str) -> AsyncIterator[None]:
    """Hold rows until the block ends."""
    async with database.session() as session:
        await (await session.connection()).execute(text(statement))
        yield
        await session.rollback()


async def test_of_two_owners_who_demote_each_other_one_stays(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement(bob="owner")
    path, viewer = f"{ENGAGEMENTS}/{one}/members", {"role": "viewer"}
    async with held(database, f"SELECT FROM engagements WHERE id = {one} FOR UPDATE"):
        both = [
            asyncio.ensure_future(client.patch(f"{path}/bob", json=viewer, headers=ALICE)),
            asyncio.ensure_future(client.patch(f"{path}/alice", json=viewer, headers=BOB)),
        ]
        await waiting(database, 2)
    answers = await asyncio.gather(*both)
    assert sorted(answer.status_code for answer in answers) == [200, 403]
    listed = (await client.get(path, headers=ALICE)).json()["items"]
    assert sorted(member["role"] for member in listed) == ["owner", "viewer"]


async def test_of_two_owners_who_leave_at_once_one_stays(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement(bob="owner", carol="editor")
    async with held(database, f"SELECT FROM engagements WHERE id = {one} FOR UPDATE"):
        path = f"{ENGAGEMENTS}/{one}/leave"
        both = [asyncio.ensure_future(client.post(path, headers=headers)) for headers in (ALICE, BOB)]
        await waiting(database, 2)
    assert sorted(answer.status_code for answer in await asyncio.gather(*both)) == [204, 409]


WRITES: Final = {
    "change": ("PATCH", "{task}", {"title": "y"}),
    "complete": ("POST", "{task}/complete", None),
    "move": ("POST", "{task}/move", {"after": "{other}"}),
    "create": ("POST", TASKS, {"title": "y", "engagement_id": "{engagement}"}),
    "bulk": ("POST", f"{TASKS}/bulk", {"operations": [{"op": "complete", "id": "{id}"}]}),
    "comment": ("POST", "{task}/comments", {"body": "y"}),
    "import": ("POST", f"{TASKS}/import?engagement_id={{engagement}}", {
        "format": "taskwire-tasks", "version": 1, "tasks": [{"title": "x"}],
    }),
}  # fmt: skip


async def written_to(client: httpx2.AsyncClient, name: str, engagement_id: int, tasks: list[int]) -> httpx2.Response:
    """Do one of the writes as bob."""
    first, second = tasks
    names: dict[str, object] = {"engagement": engagement_id, "task": f"{TASKS}/{first}", "id": first, "other": second}

    def filled(value: object) -> object:
        if isinstance(value, dict):
            return {key: filled(part) for key, part in value.items()}
        if isinstance(value, list):
            return [filled(part) for part in value]
        return names.get(str(value).strip("{}"), value)

    method, path, body = WRITES[name]
    keyed = BOB | {"Idempotency-Key": f"k-{name}"}
    return await client.request(method, path.format(**names), json=filled(body), headers=keyed)


@pytest.mark.parametrize("name", WRITES)
async def test_a_removal_waits_for_a_write_that_is_under_way(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database, name: str
) -> None:
    one = await engagement(bob="editor")
    # What the write needs last, so it stands right before its commit.
    last = "LOCK TABLE comments IN SHARE MODE" if name == "comment" else "LOCK TABLE outbox IN SHARE MODE"
    if name in {"create", "import"}:
        last = "LOCK TABLE tasks IN SHARE MODE"
    tasks = [await client.post(TASKS, json={"title": "x", "engagement_id": one}, headers=ALICE) for _ in range(2)]
    assert {answer.status_code for answer in tasks} == {201}
    async with held(database, last):
        write = asyncio.ensure_future(written_to(client, name, one, [answer.json()["id"] for answer in tasks]))
        await waiting(database, 1)
        removal = asyncio.ensure_future(client.delete(f"{ENGAGEMENTS}/{one}/members/bob", headers=ALICE))
        await waiting(database, 2)
        assert not removal.done()
    assert (await write).status_code < 300, (await write).text
    assert (await removal).status_code == 204


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_that_waited_for_a_removal_is_refused(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database, name: str
) -> None:
    one = await engagement(bob="editor")
    tasks = [await client.post(TASKS, json={"title": "x", "engagement_id": one}, headers=ALICE) for _ in range(2)]
    async with database.session() as session:
        connection = await session.connection()
        await connection.execute(text(f"SELECT FROM engagements WHERE id = {one} FOR NO KEY UPDATE"))
        write = asyncio.ensure_future(written_to(client, name, one, [answer.json()["id"] for answer in tasks]))
        await waiting(database, 1)
        out = f"DELETE FROM engagement_members WHERE engagement_id = {one} AND user_id = 'bob'"
        await connection.execute(text(out))
        await session.commit()
    answer = await write
    refused = answer.json()["results"][0]["status"] if name == "bulk" else answer.status_code
    assert refused == 403, answer.text


async def test_who_is_removed_while_accepting_again_is_out(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement()
    path = f"{ENGAGEMENTS}/{one}"
    issued = (await client.post(f"{path}/invitations", json={"role": "editor"}, headers=ALICE)).json()
    token = {"token": issued["token"]}
    await client.post(f"{ENGAGEMENTS}/invitations/accept", json=token, headers=BOB)
    async with held(database, f"SELECT FROM engagements WHERE id = {one} FOR UPDATE"):
        removal = asyncio.ensure_future(client.delete(f"{path}/members/bob", headers=ALICE))
        await waiting(database, 1)
        again = asyncio.ensure_future(client.post(f"{ENGAGEMENTS}/invitations/accept", json=token, headers=BOB))
        await waiting(database, 2)
    assert (await removal).status_code == 204
    late = await again
    members = [item["user_id"] for item in (await client.get(f"{path}/members", headers=ALICE)).json()["items"]]
    assert (late.status_code, members) == (404, ["alice"])


async def test_an_invitation_that_two_accept_at_once_lets_one_in(
    client: httpx2.AsyncClient, engagement: MakeEngagement, database: Database
) -> None:
    one = await engagement()
    path = f"{ENGAGEMENTS}/{one}"
    issued = (await client.post(f"{path}/invitations", json={"role": "editor"}, headers=ALICE)).json()
    accept, token = f"{ENGAGEMENTS}/invitations/accept", {"token": issued["token"]}
    async with held(database, f"SELECT FROM engagements WHERE id = {one} FOR UPDATE"):
        both = [asyncio.ensure_future(client.post(accept, json=token, headers=headers)) for headers in (BOB, CAROL)]
        await waiting(database, 2)
    assert sorted(answer.status_code for answer in await asyncio.gather(*both)) == [200, 404]
    assert len((await client.get(f"{path}/members", headers=ALICE)).json()["items"]) == 2


async def test_the_last_place_of_a_limit_is_taken_once(
    client: httpx2.AsyncClient, engagement: MakeEngagement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "MAX_MEMBERS", 2)
    monkeypatch.setattr(service, "MAX_ENGAGEMENTS", 3)
    monkeypatch.setattr(invitations, "MAX_OPEN_INVITATIONS", 4)
    path = f"{ENGAGEMENTS}/{await engagement()}"
    invited = await asyncio.gather(
        *(client.post(f"{path}/invitations", json={"role": "viewer"}, headers=ALICE) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in invited) == [201] * 4 + [409] * 2
    tokens = [answer.json()["token"] for answer in invited if answer.status_code == 201]
    accepted = await asyncio.gather(
        *(
            client.post(f"{ENGAGEMENTS}/invitations/accept", json={"token": token}, headers=bearer(f"user-{number}"))
            for number, token in enumerate(tokens)
        )
    )
    codes = sorted(answer.json().get("code", "") for answer in accepted)
    assert codes == ["", "too_many_members", "too_many_members", "too_many_members"]
    made = await asyncio.gather(*(client.post(ENGAGEMENTS, json={"name": "x"}, headers=ALICE) for _ in range(4)))
    assert sorted(answer.status_code for answer in made) == [201, 201, 409, 409]


READS: Final = {
    "list": ("task_api.tasks.service", f"{TASKS}?engagement_id={{engagement}}&total=true"),
    "changes": ("task_api.sync.service", f"{TASKS}/changes?engagement_id={{engagement}}"),
    "completions": ("task_api.history.service", "/api/v1/completions?engagement_id={engagement}&total=true"),
}


@pytest.mark.parametrize("name", READS)
async def test_who_is_removed_after_having_been_let_in_reads_nothing_that_came_later(
    client: httpx2.AsyncClient,
    engagement: MakeEngagement,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    one = await engagement(bob="viewer")
    module, path = READS[name]

    async def overtaken(session: AsyncSession, space: Space, act: Act = Act.READ) -> None:
        await access.enter(session, space, act)
        if space.user_id != "bob":  # alice writes by the same door
            return
        async with database.session() as other:
            out = "DELETE FROM engagement_members WHERE user_id = 'bob'"
            await (await other.connection()).execute(text(out))
            await other.commit()
        later = await client.post(TASKS, json={"title": "x", "engagement_id": one}, headers=ALICE)
        assert (await client.post(f"{TASKS}/{later.json()['id']}/complete", headers=ALICE)).status_code == 200

    monkeypatch.setattr(f"{module}.enter", overtaken)
    answer = (await client.get(path.format(engagement=one), headers=BOB)).json()
    assert (answer["items"], answer.get("total", 0)) == ([], 0)
