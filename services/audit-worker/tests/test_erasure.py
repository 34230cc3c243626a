"""Somebody is erased from the trail: content, salt and name go, the chain holds, and late events change nothing."""

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import httpx2
import pytest
from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI

from audit_worker.trail.chain import verify_chain
from audit_worker.trail.schemas import AuditEntryOut
from audit_worker.trail.service import TrailData
from chassis.accounts import ACCOUNTS_ROUTE, subscribe_to_accounts
from chassis.correlation import new_id
from chassis.erased_subjects import ErasedSubjects
from chassis.erasure import Erasure
from chassis.publisher import PublishError
from chassis.testing import (
    APP_TOKEN,
    HS256_SECRET,
    PATIENCE,
    bearer,
    deliver,
    deliver_bulk,
    deliver_until_taken,
    make_task_event,
    post_dead_letter,
)
from devstack.polling import within
from task_events import EncodedEvent, ErasureConfirmed, ErasureRequested, ErasureRequestedData, parse_account_event

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
ALICE = "alice-7f3a"
SECRET = "buy a ring"


class Confirmations:
    """Takes what is published, or fails."""

    def __init__(self) -> None:
        self.events: list[ErasureConfirmed] = []
        self.fails, self.open_for = False, 0.0

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        if self.fails:
            raise PublishError("sidecar down")
        for event in events:
            assert event.topic == "account-confirmations"
            confirmed = parse_account_event(event.body)
            assert isinstance(confirmed, ErasureConfirmed)
            self.events.append(confirmed)


@pytest.fixture
def confirmations(app: FastAPI) -> Confirmations:
    """Those of a service whose publisher was exchanged: there is no sidecar in these tests."""
    published = Confirmations()
    subjects = ErasedSubjects(HS256_SECRET.encode())
    erasure = Erasure("audit-worker", app.state.database, subjects, TrailData(), published)
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != ACCOUNTS_ROUTE]
    subscribe_to_accounts(DaprApp(app), app_api_token=APP_TOKEN, handle=erasure.handle)
    return published


def request_for(user: str, attempt: int = 1) -> ErasureRequested:
    now = datetime.now(UTC)
    data = ErasureRequestedData(erasure_id="e-1", corr_id="c-1", requested_at=now, attempt=attempt)
    return ErasureRequested(id=new_id(), source="/taskwire/task-api", subject=user, time=now, data=data)


async def post(client: httpx2.AsyncClient, body: bytes, token: str = APP_TOKEN) -> httpx2.Response:
    return await client.post(ACCOUNTS_ROUTE, content=body, headers={"dapr-api-token": token})


async def erase(client: httpx2.AsyncClient, user: str) -> str:
    answer = await post(client, request_for(user).encode().body)
    assert answer.status_code == 200
    return str(answer.json()["status"])


async def chain(client: httpx2.AsyncClient) -> list[AuditEntryOut]:
    items = (await client.get("/api/v1/audit/entries?limit=500", headers=bearer("olga", "auditor"))).json()["items"]
    return [AuditEntryOut.model_validate(item) for item in items]


async def everything(database: Database) -> str:
    tables = await database.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    rows = [await database.fetch(f'SELECT t::text FROM "{table}" AS t') for (table,) in tables]
    dumped = "\n".join(row[0] for found in rows for row in found)
    return dumped + "\n".join(bytes.fromhex(part).decode(errors="replace") for part in _hexadecimal(dumped))


def _hexadecimal(dumped: str) -> list[str]:
    return re.findall(r"\\x((?:[0-9a-f]{2})+)", dumped)


async def test_content_salt_and_name_go_and_the_chain_holds(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations
) -> None:
    await deliver_bulk(client, make_task_event(1, owner_id=ALICE, title=SECRET), make_task_event(2, owner_id="bob"))
    await deliver(client, make_task_event(1, 2, owner_id=ALICE, title=SECRET))
    before = await chain(client)
    assert await erase(client, ALICE) == "SUCCESS"
    after = await chain(client)
    assert verify_chain(after) == []
    assert [entry.hash for entry in after] == [entry.hash for entry in before]
    assert after[1] == before[1]
    assert [(e.owner_id, e.actor, e.salt, e.changes, e.task, e.corr_id) for e in (after[0], after[2])] == [
        ("erased", "erased", "", {}, {}, "")
    ] * 2
    dumped = await everything(database)
    assert "bob" in dumped
    assert ALICE not in dumped
    assert SECRET not in dumped
    (confirmed,) = confirmations.events
    assert (confirmed.subject, confirmed.data.service, confirmed.data.erasure_id) == (ALICE, "audit-worker", "e-1")


async def test_who_changed_a_task_of_somebody_else_is_taken_out_and_the_task_stays(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations
) -> None:
    await deliver(client, make_task_event(1, owner_id="bob", actor_id=ALICE), make_task_event(2, owner_id="bob"))
    await erase(client, ALICE)
    first, second = await chain(client)
    assert (first.owner_id, first.actor, first.actor_salt, first.task["title"]) == ("bob", "erased", "", "Buy milk")
    assert verify_chain([first, second]) == []
    forged = first.model_copy(update={"task": first.task | {"title": "Buy a ring"}})
    assert [fault.sequence for fault in verify_chain([forged, second])] == [1]
    assert ALICE not in await everything(database)
    await deliver(client, make_task_event(1, 2, owner_id="bob", actor_id=ALICE))
    assert ALICE not in await everything(database)
    assert verify_chain(await chain(client)) == []
    await erase(client, "bob")
    assert verify_chain(await chain(client)) == []


async def test_an_entry_from_before_actors_had_a_digest_of_their_own_says_that_it_proves_nothing(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations
) -> None:
    await deliver(client, make_task_event(1, owner_id="bob", actor_id=ALICE))
    await database.execute("ALTER TABLE audit_entries DISABLE TRIGGER USER")
    await database.execute("UPDATE audit_entries SET actor_salt = NULL, actor_hash = NULL")
    await database.execute("ALTER TABLE audit_entries ENABLE TRIGGER USER")
    await erase(client, ALICE)
    (entry,) = await chain(client)
    assert (entry.actor, entry.salt, entry.actor_hash) == ("erased", "", None)
    assert [fault.problem for fault in verify_chain([entry])] == [
        "the actor was erased, so nothing proves the rest of the content"
    ]


@pytest.mark.parametrize(
    "left",
    [
        "actor = 'erased', salt = ''",
        "actor = 'erased'",
        "actor = 'erased', owner_id = 'erased', changes = '{}', task = '{}', corr_id = '', salt = ''",
    ],
)
async def test_a_replica_of_the_release_before_cannot_erase_an_actor_and_leave_what_proves_who_it_was(
    client: httpx2.AsyncClient, database: Database, left: str
) -> None:
    await deliver(client, make_task_event(1, owner_id="bob", actor_id=ALICE))
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await database.execute(f"UPDATE audit_entries SET {left}, erased_at = now()")


async def test_events_that_are_late_are_chained_without_their_content(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations
) -> None:
    await deliver(client, make_task_event(1, owner_id=ALICE))
    await erase(client, ALICE)
    late = [make_task_event(1, 2, owner_id=ALICE, title=SECRET), make_task_event(5, owner_id="bob")]
    assert await deliver_bulk(client, *late) == ["SUCCESS"] * 2
    entries = await chain(client)
    assert [entry.owner_id for entry in entries] == ["erased", "erased", "bob"]
    assert [entry.task_version for entry in entries] == [1, 2, 1]
    assert verify_chain(entries) == []
    dumped = await everything(database)
    assert ALICE not in dumped
    assert SECRET not in dumped


async def test_events_and_the_erasure_at_once_leave_nothing_in_any_order(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations
) -> None:
    async def deliveries(task: int) -> None:
        for version in range(1, 6):
            await deliver_until_taken(client, make_task_event(task, version, owner_id=ALICE, title=SECRET))

    async def erased() -> None:
        async def taken() -> bool:
            return await erase(client, ALICE) == "SUCCESS"

        assert await within(PATIENCE, taken, 0.05)

    await asyncio.gather(*(deliveries(task) for task in range(1, 9)), erased())
    assert ALICE not in await everything(database)
    entries = await chain(client)
    assert (len(entries), verify_chain(entries)) == (40, [])


async def test_a_request_that_comes_again_is_confirmed_again(
    client: httpx2.AsyncClient, confirmations: Confirmations
) -> None:
    confirmations.fails = True
    assert await erase(client, ALICE) == "RETRY"
    confirmations.fails = False
    assert [await erase(client, ALICE) for _ in range(3)] == ["SUCCESS"] * 3
    assert [event.subject for event in confirmations.events] == [ALICE] * 3


async def test_without_the_confirmation_being_published_the_request_is_not_done(
    client: httpx2.AsyncClient,
) -> None:
    """The service's own publisher, with no sidecar."""
    assert await erase(client, ALICE) == "RETRY"


async def test_dead_letters_of_the_erased_are_blank_and_new_ones_are_not_kept(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations
) -> None:
    mine = make_task_event(1, owner_id=ALICE, title=SECRET)
    broken = json.loads(mine.to_json())
    broken["data"]["task"].pop("version")
    garbage = b'{"who": "' + ALICE.encode() + b'", "what": ' + json.dumps(SECRET).encode()
    letters = [mine.to_json(), json.dumps(broken).encode(), garbage, make_task_event(2, owner_id="bob").to_json()]
    for offset, body in enumerate(letters):
        assert (await post_dead_letter(client, body, offset=offset)).json() == {"status": "SUCCESS"}
    assert ALICE in await everything(database)
    await erase(client, ALICE)
    dumped = await everything(database)
    assert ALICE not in dumped
    assert SECRET not in dumped
    states = await database.fetch("SELECT status, octet_length(body) > 0 FROM dead_letters ORDER BY id")
    assert [tuple(row) for row in states] == [("discarded", False)] * 3 + [("open", True)]
    for offset, body in enumerate(letters[:2]):
        assert (await post_dead_letter(client, body, offset=offset + 50)).json() == {"status": "SUCCESS"}
    assert ALICE not in await everything(database)


async def test_an_operator_who_is_erased_is_taken_out_of_the_letters_they_closed(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations
) -> None:
    await post_dead_letter(client, b"poison")
    letters = (await client.get("/api/v1/dead-letters", headers=bearer(ALICE, "admin"))).json()["items"]
    path = f"/api/v1/dead-letters/{letters[0]['id']}/discard"
    assert (await client.post(path, json={"note": "no"}, headers=bearer(ALICE, "admin"))).is_success
    await erase(client, ALICE)
    assert ALICE not in await everything(database)


@pytest.mark.parametrize("body", [b"", b"{", b'{"type": "user.promoted"}', b"\xff"])
async def test_what_cannot_be_read_is_passed_over(
    client: httpx2.AsyncClient, confirmations: Confirmations, body: bytes
) -> None:
    assert (await post(client, body)).json() == {"status": "SUCCESS"}
    assert confirmations.events == []


async def test_nobody_but_the_sidecar_may_ask_for_an_erasure(client: httpx2.AsyncClient, database: Database) -> None:
    await deliver(client, make_task_event(1, owner_id=ALICE))
    answer = await post(client, request_for(ALICE).encode().body, token="guessed")
    assert answer.status_code == 403
    assert ALICE in await everything(database)


async def test_the_erasure_waits_for_who_is_appending_an_entry(
    client: httpx2.AsyncClient, database: Database, confirmations: Confirmations, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr("chassis.erasure._ERASE_TIMEOUT", 0.2)
        async with database.transaction():
            await database.execute("SELECT FROM chain_head FOR UPDATE")  # as whoever is about to append
            assert await erase(client, ALICE) == "RETRY"
    assert await erase(client, ALICE) == "SUCCESS"
    assert len(confirmations.events) == 1
