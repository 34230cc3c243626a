"""Dead letters of notifier: the same desk as everywhere, behind this service's own door."""

import asyncpg
import httpx2
import pytest

from chassis.testing import bearer, deliver, make_task_event, post_dead_letter

URL = "/api/v1/dead-letters"
ADMIN = bearer("olga", "admin")


async def test_what_failed_is_told_once_after_the_repair(
    client: httpx2.AsyncClient, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    event = make_task_event(title="cursed")
    await database.execute("ALTER TABLE notifications ADD CONSTRAINT cursed CHECK (title NOT LIKE '%cursed%')")
    assert await deliver(client, event, event) == ["SUCCESS"] * 2
    assert (await post_dead_letter(client, event)).json() == {"status": "SUCCESS"}
    [letter] = (await client.get(URL, headers=ADMIN)).json()["items"]
    assert (letter["event_id"], letter["attempts"]) == (event.id, 1)
    assert letter["reason"].startswith("CheckViolationError: ")
    assert (await client.post(f"{URL}/{letter['id']}/redrive", headers=ADMIN)).status_code == 409
    await database.execute("ALTER TABLE notifications DROP CONSTRAINT cursed")
    for status in (200, 409):
        assert (await client.post(f"{URL}/{letter['id']}/redrive", headers=ADMIN)).status_code == status
    items = (await client.get("/api/v1/notifications", headers=bearer("alice"))).json()["items"]
    assert [item["event_id"] for item in items] == [event.id]


async def test_a_late_redrive_tells_of_the_older_change_after_all(client: httpx2.AsyncClient) -> None:
    late, newer = make_task_event(1, 1), make_task_event(1, 2)
    await post_dead_letter(client, late)
    await deliver(client, newer)
    assert (await client.post(f"{URL}/1/redrive", headers=ADMIN)).json()["verdict"] == "stale"
    items = (await client.get("/api/v1/notifications", headers=bearer("alice"))).json()["items"]
    assert [item["event_id"] for item in items] == [late.id, newer.id]


@pytest.mark.parametrize("headers", [{}, bearer("alice"), bearer("olga", "auditor")])
async def test_the_desk_is_for_admins_alone(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.get(URL, headers=headers)).status_code in {401, 403}
