"""`GET /api/v1/audit/entries`: who sees what, in which order, and what is refused."""

import json

import asyncpg
import httpx2
import pytest

from audit_worker.trail.chain import verify_chain
from audit_worker.trail.schemas import AuditEntryOut
from chassis.testing import bearer, deliver, make_task_event, make_token

URL = "/api/v1/audit/entries"


async def read(client: httpx2.AsyncClient, query: str = "", user: str = "alice", *roles: str) -> list[int]:
    response = await client.get(f"{URL}?{query}", headers=bearer(user, *roles))
    assert response.status_code == 200, response.text
    return [item["sequence"] for item in response.json()["items"]]


@pytest.fixture
async def three(client: httpx2.AsyncClient) -> None:
    """Entries 1 and 3 are alice's, of tasks 1 and 2; entry 2 is bob's."""
    await deliver(client, make_task_event(1), make_task_event(9, owner_id="bob", actor_id="alice"), make_task_event(2))


@pytest.mark.usefixtures("three")
async def test_a_user_sees_only_entries_of_own_tasks(client: httpx2.AsyncClient) -> None:
    assert await read(client, user="alice") == [1, 3]
    assert await read(client, user="bob") == [2]
    assert await read(client, user="carol") == []
    assert await read(client, "task_id=9", "alice") == []


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("role", ["auditor", "admin"])
async def test_an_auditor_and_an_admin_see_everything(client: httpx2.AsyncClient, role: str) -> None:
    assert await read(client, "", "olga", role) == [1, 2, 3]
    assert await read(client, "task_id=9", "olga", "whatever", role) == [2]


@pytest.mark.usefixtures("three")
async def test_other_roles_see_no_more_than_no_role(client: httpx2.AsyncClient) -> None:
    assert await read(client, "", "alice", "Admin", "auditors", "member") == [1, 3]


@pytest.mark.usefixtures("three")
async def test_the_history_of_one_task_is_ascending(client: httpx2.AsyncClient) -> None:
    await deliver(client, make_task_event(1, 2), make_task_event(1, 3))
    assert await read(client, "task_id=1") == [1, 4, 5]


@pytest.mark.usefixtures("three")
async def test_total_counts_what_the_caller_may_see_only_when_asked(client: httpx2.AsyncClient) -> None:
    async def page(query: str, *roles: str) -> dict[str, object]:
        found: dict[str, object] = (await client.get(f"{URL}?{query}", headers=bearer("alice", *roles))).json()
        return found

    assert "total" not in await page("limit=1")
    assert (await page("limit=1&total=true"))["total"] == 2
    assert (await page("task_id=2&total=true"))["total"] == 1
    assert (await page("total=true", "auditor"))["total"] == 3


async def test_pages_give_every_entry_once_while_others_are_appended(client: httpx2.AsyncClient) -> None:
    owners = ["alice", "bob", "alice"]
    for task in range(1, 16):
        await deliver(client, make_task_event(task, owner_id=owners[task % 3]))
    seen: list[int] = []
    cursor = ""
    for turn in range(1, 12):
        page = (await client.get(f"{URL}?limit=3{cursor}", headers=bearer("alice"))).json()
        seen += [item["task_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        if turn <= 4:
            await deliver(client, make_task_event(100 + turn), make_task_event(200 + turn, owner_id="bob"))
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [task for task in range(1, 16) if task % 3 != 1] + [101, 102, 103, 104]


async def test_a_full_last_page_has_no_next_cursor(client: httpx2.AsyncClient) -> None:
    await deliver(client, *(make_task_event(task) for task in (1, 2)))
    response = await client.get(f"{URL}?limit=2", headers=bearer("alice"))
    assert len(response.json()["items"]) == 2
    assert response.json()["next_cursor"] is None


async def test_what_the_api_serves_can_be_verified_as_it_is(client: httpx2.AsyncClient) -> None:
    await deliver(client, *(make_task_event(task, title="Öl € “x”\n\u2028") for task in (2**62, 3)))
    body = (await client.get(URL, headers=bearer("olga", "auditor"))).text
    entries = [AuditEntryOut.model_validate(item) for item in json.loads(body)["items"]]
    assert len(entries) == 2
    assert verify_chain(entries) == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=-1", "limit=ten", "limit=", "task_id=0", "task_id=-1", "task_id=x",
        f"task_id={2**63}", "cursor=nonsense", "cursor=", "cursor=eyJhZnRlciI6IC0xfQ", "total=perhaps",
        "cursor=" + "A" * 201, "engagement_id=0", "engagement_id=-1", "engagement_id=x", f"engagement_id={2**63}",
    ],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"{URL}?{query}", headers=bearer("alice"))
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "validation_error"
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert problem["errors"][0]["field"].startswith("query.")


async def test_the_limits_themselves_are_accepted(client: httpx2.AsyncClient) -> None:
    assert await read(client, f"limit=500&task_id={2**63 - 1}") == []
    assert await read(client, "limit=1&task_id=1") == []
    assert await read(client, f"engagement_id={2**63 - 1}", "olga", "auditor") == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic YWxpY2U6"},
        {"Authorization": f"Bearer {make_token('alice', exp=1)}"},
        {"Authorization": f"Bearer {make_token('alice', iss='someone')}"},
        {"Authorization": f"Bearer {make_token('alice')[:-3]}abc"},
    ],
)
async def test_without_a_valid_token_nothing_is_shown(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.get(URL, headers=headers)
    assert response.status_code == 401
    assert response.json()["code"] == "unauthenticated"
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_the_list_is_read_through_its_indexes(
    client: httpx2.AsyncClient, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await deliver(client, *(make_task_event(task, owner_id=f"user-{task}") for task in range(1, 4)))
    await database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    plans = {
        where: "\n".join(
            row[0]
            for row in await database.fetch(
                f"EXPLAIN SELECT * FROM audit_entries WHERE {where} ORDER BY sequence LIMIT 51"
            )
        )
        for where in ("owner_id = 'user-1' AND sequence > 0", "task_id = 1 AND sequence > 0")
    }
    assert all("Sort" not in plan for plan in plans.values())
    owner, task = plans.values()
    assert "audit_entries_owner_id_sequence_idx" in owner
    assert "audit_entries_task_id_sequence_idx" in task
