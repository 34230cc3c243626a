"""An account is erased on the whole stack: from all three databases, whatever dies meanwhile."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx2
import pytest
import uuid_utils
from tests.e2e.coming_back import PATIENCE, patient_client
from tests.e2e.conftest import Person

from audit_worker.trail.chain import ChainFault, verify_chain
from audit_worker.trail.schemas import AuditEntryOut
from chassis.testing import make_task_event
from devstack.polling import within
from task_events import ErasureConfirmed, ErasureConfirmedData, ErasureRequested, ErasureRequestedData

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from devstack.running_stack import RunningStack

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
SERVICES = ("audit-worker", "notifier", "task-api")


async def occurrences(stack: "RunningStack", *texts: str) -> list[str]:
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


async def erase(person: Person) -> str:
    answer = await person.ask("DELETE", "/users/me", {"confirm": person.name})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/api/v1/users/me/erasure/{answer.json()['id']}"
    return str(answer.json()["id"])


async def status(person: Person, erasure_id: str) -> Json:
    answer = await person.ask("GET", f"/users/me/erasure/{erasure_id}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def is_erased(person: Person, erasure_id: str) -> Json:
    shown: Json = {}

    async def done() -> bool:
        shown.update(await status(person, erasure_id))
        return bool(shown["state"] == "done")

    assert await within(PATIENCE, done, 0.3), shown
    return shown


async def chain_faults(stack: "RunningStack", http: httpx2.AsyncClient) -> list[ChainFault]:
    """Read the whole trail as an auditor and verify it without the service."""
    entries: list[AuditEntryOut] = []
    headers = {"Authorization": f"Bearer {stack.token('olga', ['auditor'])}"}
    url, cursor = f"{stack.urls['audit-worker']}/api/v1/audit/entries?limit=500", ""
    while True:
        page = (await http.get(url + cursor, headers=headers)).json()
        entries += [AuditEntryOut.model_validate(item) for item in page["items"]]
        if page["next_cursor"] is None:
            assert any(entry.owner_id == "erased" for entry in entries)
            return verify_chain(entries)
        cursor = f"&cursor={page['next_cursor']}"


@pytest.fixture
async def people(stack: "RunningStack") -> AsyncIterator[list[Person]]:
    """Some people, each with a task that is known everywhere."""
    made = []
    for _ in range(3):
        name = f"person-{uuid_utils.uuid7()}"
        http = patient_client({"Authorization": f"Bearer {stack.token(name)}"})
        person = Person(name, http, dict(stack.urls))
        await person.create_task(f"task of {name}")
        await person.is_notified(1)
        made.append(person)
    yield made
    for person in made:
        await person.http.aclose()


async def test_an_erased_account_is_gone_from_every_table_of_all_services(alice: Person, stack: "RunningStack") -> None:
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
    assert await chain_faults(stack, alice.http) == []
    assert (await alice.ask("GET", "/tasks")).status_code == 410
    assert await erase(alice) == erasure_id


@pytest.mark.usefixtures("whole_again")
async def test_a_service_that_is_down_delays_the_erasure_and_no_more(
    people: list[Person], stack: "RunningStack"
) -> None:
    person = people[0]
    await stack.stop_part("notifier")
    erasure_id = await erase(person)

    async def audited() -> bool:
        services = {part["service"]: part["confirmed_at"] for part in (await status(person, erasure_id))["services"]}
        return services["audit-worker"] is not None and services["notifier"] is None

    assert await within(PATIENCE, audited, 0.2)
    assert (await status(person, erasure_id))["state"] == "waiting_for_services"
    assert await occurrences(stack, person.name) != []
    await stack.start_part("notifier")
    await is_erased(person, erasure_id)
    assert await occurrences(stack, person.name) == []


@pytest.mark.usefixtures("whole_again")
async def test_whoever_is_killed_in_the_middle_every_erasure_ends_and_leaves_nothing(
    people: list[Person], stack: "RunningStack"
) -> None:
    erasures = []
    for person, victims in zip(
        people,
        (("task-api", "daprd-audit-worker"), ("audit-worker", "daprd-task-api"), ("notifier", "daprd-notifier")),
        strict=True,
    ):
        erasures.append(await erase(person))
        for victim in victims:
            await stack.kill(victim)
        await stack.wait_ready("task-api")
    await stack.wait_all_ready()
    for person, erasure_id in zip(people, erasures, strict=True):
        await is_erased(person, erasure_id)
    assert await occurrences(stack, *(person.name for person in people)) == []
    assert await chain_faults(stack, people[0].http) == []


async def test_what_comes_late_twice_or_in_another_order_brings_nothing_back(
    people: list[Person], stack: "RunningStack", past_taskwire: "AIOKafkaProducer[bytes, bytes]"
) -> None:
    person, other = people[:2]
    erasure_id = await erase(person)
    await is_erased(person, erasure_id)
    now = datetime.now(UTC)
    asked = ErasureRequestedData(erasure_id=erasure_id, corr_id="again", requested_at=now, attempt=2)
    told = ErasureConfirmedData(erasure_id=erasure_id, corr_id="again", service="notifier", confirmed_at=now)
    common: Json = {"source": "/taskwire/task-api", "subject": person.name, "time": now}
    repeated = [
        ErasureConfirmed(id=str(uuid_utils.uuid7()), data=told, **common).encode(),
        ErasureRequested(id=str(uuid_utils.uuid7()), data=asked, **common).encode(),
    ]
    number = 10**15 + uuid_utils.uuid7().int % 10**6
    late = [make_task_event(number, version, owner_id=person.name, title=person.name) for version in (3, 1, 2)]
    for event in repeated * 2:
        await past_taskwire.send_and_wait(event.topic, event.body, key=event.subject.encode())
    for late_event in (*late, late[0]):
        await past_taskwire.send_and_wait("tasks", late_event.to_json(), key=str(number).encode())
    auditor = {"Authorization": f"Bearer {stack.token('olga', ['auditor'])}"}
    url = f"{stack.urls['audit-worker']}/api/v1/audit/entries?task_id={number}"

    async def arrived() -> bool:
        return len((await other.http.get(url, headers=auditor)).json()["items"]) == len(late)

    assert await within(PATIENCE, arrived, 0.2)
    task = await other.create_task("after all that")
    await other.sees_versions_audited(task, 1)
    await other.is_notified(2)
    assert await occurrences(stack, person.name) == []
    assert await chain_faults(stack, other.http) == []
