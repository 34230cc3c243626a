"""The story of an engagement on the real stack: who is let in, who is told, and what is over with a removal."""

from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.e2e.coming_back import PATIENCE, patient_client

from chassis.event_source import event_source
from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e


def user(stack: "RunningStack", name: str) -> httpx2.AsyncClient:
    return patient_client({"Authorization": f"Bearer {stack.token(name)}"})


async def test_bob_is_invited_edits_alice_is_told_and_with_his_removal_his_stream_ends(
    alice: "Person", stack: "RunningStack"
) -> None:
    bobs_name = f"bob-of-{alice.name}"
    engagement = (await alice.ask("POST", "/engagements", {"name": "Kitchen"})).json()["id"]
    tasks = f"{stack.urls['task-api']}/api/v1/tasks"

    async def let_in(user: httpx2.AsyncClient, role: str) -> None:
        invited = await alice.ask("POST", f"/engagements/{engagement}/invitations", {"role": role})
        accept = tasks.replace("/tasks", "/engagements/invitations/accept")
        joined = await user.post(accept, json={"token": invited.json()["token"]})
        assert joined.json() == {"engagement_id": engagement, "name": "Kitchen", "role": role}

    async def is_told_of(user: httpx2.AsyncClient, *types: str) -> bool:
        told = await user.get(f"{stack.urls['notifier']}/api/v1/notifications")
        return [item["type"] for item in told.json()["items"]] == list(types)

    async with user(stack, bobs_name) as bob, user(stack, f"carol-of-{alice.name}") as carol:
        await let_in(bob, "editor")
        await let_in(carol, "viewer")
        query = {"engagement_id": str(engagement)}
        async with event_source(bob, f"{tasks}/stream", {}, query=query) as stream:
            task = await alice.create_task("Choose tiles", engagement_id=engagement)
            assert ((await stream.next()) or {})["task"] == task
            edited = await bob.patch(f"{tasks}/{task['id']}", json={"title": "Choose blue tiles"})
            assert edited.status_code == 200, edited.text
            assert ((await stream.next()) or {})["task"] == edited.json()
            (told,) = await alice.is_notified(1)
            assert (told["type"], told["task_id"]) == ("task.updated", task["id"])
            assert "Choose blue tiles" in told["title"]
            await alice.ask("DELETE", f"/engagements/{engagement}/members/{bobs_name}")
            await alice.ask("POST", f"/tasks/{task['id']}/complete")
            assert ((await stream.next()) or {})["code"] == "engagement_forbidden"
            assert await stream.next() is None
        refused = await bob.get(f"{tasks}/{task['id']}")
        assert (refused.status_code, refused.json()["code"]) == (403, "task_forbidden")
        trail = f"{stack.urls['audit-worker']}/api/v1/audit/entries"

        async def reads_all_of_it(user: httpx2.AsyncClient) -> bool:
            entries = (await user.get(trail, params=query)).json()["items"]
            return [(entry["type"], entry["task_id"]) for entry in entries] == [
                ("task.created", task["id"]), ("task.updated", task["id"]), ("task.completed", task["id"]),
            ]  # fmt: skip

        assert await within(PATIENCE, lambda: reads_all_of_it(carol), 0.1)
        refused = await bob.get(trail, params=query)
        assert (refused.status_code, refused.json()["code"]) == (403, "engagement_forbidden")
        # Carol, who saw it all, was told of the completion: then so would he have been, by the same transaction.
        assert await within(PATIENCE, lambda: is_told_of(carol, "task.completed", "task.updated", "task.created"), 0.1)
        assert await is_told_of(bob, "task.created")
