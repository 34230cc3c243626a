"""A script with a key, on the whole real stack: it changes a task, reads its trail, and is sent away everywhere."""

from typing import TYPE_CHECKING

import pytest
from tests.e2e.coming_back import PATIENCE, patient_client

from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

pytestmark = pytest.mark.e2e


async def test_a_script_does_with_a_key_what_its_owner_let_it_until_the_key_is_revoked(alice: "Person") -> None:
    scopes = ["tasks:write", "audit:read", "notifications:read"]
    made = await alice.ask("POST", "/api-keys", {"name": "script", "scopes": scopes})
    assert made.status_code == 201, made.text
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    async with patient_client(headers) as http:
        script = type(alice)(alice.name, http, alice.urls)
        task = await script.create_task("By a script")
        (entry,) = await script.sees_versions_audited(task, 1)
        assert entry["actor"] == alice.name
        assert "By a script" in (await script.is_notified(1))[0]["title"]
        assert (await script.ask("GET", "/tasks")).status_code == 403, "tasks:read is not among its scopes"
        assert (await alice.ask("DELETE", f"/api-keys/{made.json()['id']}")).status_code == 204
        assert (await script.ask("POST", "/tasks", {"title": "x"})).status_code == 401
        for service, path in (("audit-worker", "/audit/entries"), ("notifier", "/notifications")):

            async def refused(service: str = service, path: str = path) -> bool:
                return (await script.ask("GET", path, service=service)).status_code == 401

            assert await within(PATIENCE, refused, 0.2), service
