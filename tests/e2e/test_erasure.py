"""An account is erased on the whole stack: from all three databases, whatever dies meanwhile."""

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import uuid_utils

from devstack.polling import within

if TYPE_CHECKING:
    from tests.e2e.conftest import Person

    from devstack.stack_under_test import StackUnderTest

pytestmark = pytest.mark.e2e
PATIENCE = 90.0
Json = dict[str, Any]
SERVICES = ("audit-worker", "notifier", "task-api")


async def occurrences(stack: "StackUnderTest", *texts: str) -> list[str]:
    """Every place in all databases that holds one of these texts: all columns of all tables, as text."""
    found = []
    for service, url in stack.databases.items():
        connection = await asyncpg.connect(url)
        try:
            tables = await connection.fetch(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            )
            for (table,) in tables:
                # Bytes are shown as they are where they are text, in hexadecimal digits too.
                wanted = [f"%{text}%" for text in texts] + [f"%{text.encode().hex()}%" for text in texts]
                rows = await connection.fetch(f'SELECT t::text FROM "{table}" AS t WHERE t::text LIKE ANY($1)', wanted)
                found += [f"{service}.{table}: {row[0][:200]}" for row in rows]
        finally:
            await connection.close()
    return found


async def erase(person: "Person") -> str:
    answer = await person.ask("DELETE", "/users/me", {"confirm": person.name})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/api/v1/users/me/erasure/{answer.json()['id']}"
    return str(answer.json()["id"])


async def status(person: "Person", erasure_id: str) -> Json:
    answer = await person.ask("GET", f"/users/me/erasure/{erasure_id}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def is_erased(person: "Person", erasure_id: str) -> Json:
    shown: Json = {}

    async def done() -> bool:
        shown.update(await status(person, erasure_id))
        return bool(shown["state"] == "done")

    assert await within(PATIENCE, done, 0.3), shown
    return shown


async def test_an_erased_account_is_gone_from_every_table_of_all_services(
    alice: "Person", stack: "StackUnderTest"
) -> None:
    secret = f"secret-{uuid_utils.uuid7()}"
    task = await alice.create_task(secret, description=f"{secret} too", tags=[secret.lower()])
    below = await alice.create_task(f"{secret} below", parent_id=task["id"])
    assert (await alice.ask("POST", f"/tasks/{task['id']}/comments", {"body": f"I said {secret}"})).is_success
    assert (await alice.ask("POST", "/calendar-feeds", {"name": f"feed {secret}"})).is_success
    assert (await alice.ask("POST", f"/tasks/{below['id']}/complete")).is_success
    assert (await alice.ask("DELETE", f"/tasks/{below['id']}")).is_success
    await alice.sees_versions_audited(below, 3)
    await alice.is_notified(4)
    assert len(await occurrences(stack, alice.name, secret)) > 10
    erasure_id = await erase(alice)
    for method, path in (("GET", "/tasks"), ("POST", "/tasks"), ("GET", "/calendar-feeds")):
        refused = await alice.ask(method, path, {"title": "x"} if method == "POST" else None)
        assert (refused.status_code, refused.json()["code"]) == (410, "account_erased")
    shown = await is_erased(alice, erasure_id)
    assert [part["service"] for part in shown["services"]] == list(SERVICES)
    assert all(part["confirmed_at"] for part in shown["services"])
    assert await occurrences(stack, alice.name, secret) == []
    assert (await alice.ask("GET", "/tasks")).status_code == 410
    assert await erase(alice) == erasure_id
