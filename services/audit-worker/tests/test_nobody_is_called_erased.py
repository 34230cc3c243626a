"""What stands where somebody's id stood is nobody's id: who is called so would find all that was erased."""

import httpx2

from chassis.testing import bearer, deliver, make_task_event


async def test_nobody_who_is_called_as_the_erased_are_shown_gets_in(client: httpx2.AsyncClient) -> None:
    await deliver(client, make_task_event(1, owner_id="erased"))
    answer = await client.get("/api/v1/audit/entries", headers=bearer("erased"))
    assert answer.status_code == 401, answer.text
    others = await client.get("/api/v1/audit/entries", headers=bearer("erased-1"))
    assert (others.status_code, others.json()["items"]) == (200, [])
