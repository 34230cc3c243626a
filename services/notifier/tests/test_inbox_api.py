"""`/api/v1/notifications`: who sees what, in which order, and what is refused."""

from datetime import UTC, datetime

import asyncpg
import httpx2
import pytest

from chassis.testing import bearer, deliver, make_task_event, make_token

URL = "/api/v1/notifications"


async def read(client: httpx2.AsyncClient, query: str = "", user: str = "alice", *roles: str) -> list[int]:
    response = await client.get(f"{URL}?{query}", headers=bearer(user, *roles))
    assert response.status_code == 200, response.text
    return [item["task_id"] for item in response.json()["items"]]


async def id_of(client: httpx2.AsyncClient, user: str, task_id: int) -> int:
    items = (await client.get(URL, headers=bearer(user))).json()["items"]
    return next(int(item["id"]) for item in items if item["task_id"] == task_id)


@pytest.fixture
async def three(client: httpx2.AsyncClient) -> None:
    """Tasks 1 and 2 are alice's, task 9 is bob's."""
    await deliver(client, make_task_event(1), make_task_event(9, owner_id="bob", actor_id="alice"), make_task_event(2))


@pytest.mark.usefixtures("three")
async def test_a_user_sees_only_own_notifications_newest_first(client: httpx2.AsyncClient) -> None:
    assert await read(client, user="alice") == [2, 1]
    assert await read(client, user="bob") == [9]
    assert await read(client, user="carol") == []


@pytest.mark.usefixtures("three")
async def test_no_role_shows_the_notifications_of_others(client: httpx2.AsyncClient) -> None:
    assert await read(client, "", "bob", "admin", "auditor") == [9]


@pytest.mark.usefixtures("three")
async def test_reading_marks_a_notification_once(client: httpx2.AsyncClient) -> None:
    notification_id = await id_of(client, "alice", 1)
    before = datetime.now(UTC)
    answers = [await client.post(f"{URL}/{notification_id}/read", headers=bearer("alice")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["id"] == notification_id
    assert before <= datetime.fromisoformat(answers[0].json()["read_at"]) <= datetime.now(UTC)
    assert answers[0].json() in (await client.get(URL, headers=bearer("alice"))).json()["items"]


@pytest.mark.usefixtures("three")
async def test_unread_and_read_ones_can_be_listed_and_counted_apart(client: httpx2.AsyncClient) -> None:
    async def total(query: str) -> object:
        return (await client.get(f"{URL}?total=true&limit=1{query}", headers=bearer("alice"))).json()["total"]

    await client.post(f"{URL}/{await id_of(client, 'alice', 1)}/read", headers=bearer("alice"))
    assert await read(client, "unread=true") == [2]
    assert await read(client, "unread=false") == [1]
    assert await read(client) == [2, 1]
    assert (await total(""), await total("&unread=true"), await total("&unread=false")) == (2, 1, 1)
    assert "total" not in (await client.get(URL, headers=bearer("alice"))).json()


@pytest.mark.usefixtures("three")
async def test_someone_elses_notification_is_forbidden_and_stays_unread(client: httpx2.AsyncClient) -> None:
    notification_id = await id_of(client, "bob", 9)
    response = await client.post(f"{URL}/{notification_id}/read", headers=bearer("alice", "admin"))
    assert response.status_code == 403
    assert response.json()["code"] == "notification_forbidden"
    assert await read(client, "unread=true", "bob") == [9]


async def test_a_notification_that_does_not_exist_is_not_found(client: httpx2.AsyncClient) -> None:
    for notification_id in (1, 2**63 - 1):
        response = await client.post(f"{URL}/{notification_id}/read", headers=bearer("alice"))
        assert response.status_code == 404
        assert response.json()["code"] == "notification_not_found"


@pytest.mark.parametrize("notification_id", ["0", "-1", "x", str(2**63), "1.5"])
async def test_an_id_that_cannot_be_is_refused(client: httpx2.AsyncClient, notification_id: str) -> None:
    response = await client.post(f"{URL}/{notification_id}/read", headers=bearer("alice"))
    assert response.status_code == 422


async def test_pages_give_every_notification_once_while_others_arrive(client: httpx2.AsyncClient) -> None:
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
        await deliver(client, make_task_event(100 + turn))
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [task for task in range(15, 0, -1) if task % 3 != 1]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=ten", "unread=maybe", "cursor=nonsense", "cursor=", "total=perhaps"],
)
async def test_a_query_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"{URL}?{query}", headers=bearer("alice"))
    assert response.status_code == 422
    assert response.json()["code"] == "validation_error"
    assert response.json()["errors"][0]["field"].startswith("query.")


@pytest.mark.parametrize(("method", "path"), [("GET", URL), ("POST", f"{URL}/1/read")])
@pytest.mark.parametrize("token", [None, "nonsense", make_token("alice", exp=1), make_token("alice", aud="x")])
async def test_without_a_valid_token_nothing_is_shown_or_done(
    client: httpx2.AsyncClient, method: str, path: str, token: str | None
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = await client.request(method, path, headers=headers)
    assert response.status_code == 401
    assert response.json()["code"] == "unauthenticated"


async def test_the_lists_are_read_through_their_indexes(
    client: httpx2.AsyncClient, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await deliver(client, *(make_task_event(task) for task in range(1, 4)))
    await database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    plans = []
    for condition in ("id < 100", "read_at IS NULL AND id < 100"):
        lines = await database.fetch(
            f"EXPLAIN SELECT * FROM notifications WHERE owner_id = 'alice' AND {condition} ORDER BY id DESC LIMIT 51"
        )
        plans.append("\n".join(line[0] for line in lines))
    assert "notifications_owner_id_id_idx" in plans[0]
    assert "notifications_unread_idx" in plans[1]
    assert all("Sort" not in plan for plan in plans)
