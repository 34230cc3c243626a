"""API keys instead of tokens: who they are, when they are refused, and what a use of them costs and leaves behind."""

import asyncio
import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import text

from chassis.database import Database, DatabaseUnavailableError, open_database
from chassis.event_source import StreamRefusedError, event_source
from chassis.identity.api_key_text import new_key_text
from chassis.testing import PATIENCE, bearer, listening, serving, settings_for
from devstack.polling import at_some_pace, within
from task_api.api_keys.repository import FoundSecret
from task_api.api_keys.uses import KeyUses
from task_api.app import create_app
from task_api.settings import TaskApiSettings

KEYS, TASKS = "/api/v1/api-keys", "/api/v1/tasks"
ALICE = bearer("alice")
Json = dict[str, Any]
SentStatements = Callable[[], AbstractContextManager[list[str]]]


async def make_key(client: httpx2.AsyncClient, *scopes: str, **fields: object) -> Json:
    body = {"name": "x", "scopes": scopes or ("tasks:read", "tasks:write")} | fields
    made = await client.post(KEYS, json=body, headers=ALICE)
    assert made.status_code == 201, made.text
    shown: Json = made.json()
    return shown


def sent_with(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def status_of(client: httpx2.AsyncClient, key: str) -> int:
    return (await client.get(TASKS, headers=sent_with(key))).status_code


async def value(database: Database, sql: str) -> Any:  # noqa: ANN401
    async with database.session() as session:
        return await (await session.connection()).scalar(text(sql))


async def execute(database: Database, sql: str) -> None:
    async with database.session() as session:
        await (await session.connection()).execute(text(sql))
        await session.commit()


async def test_a_key_acts_for_its_owner(client: httpx2.AsyncClient, database: Database) -> None:
    key = (await make_key(client))["key"]
    headers = sent_with(key) | {"Idempotency-Key": "k"}
    made = await client.post(TASKS, json={"title": "by a script"}, headers=headers)
    assert made.status_code == 201
    assert [task["title"] for task in (await client.get(TASKS, headers=ALICE)).json()["items"]] == ["by a script"]
    assert await value(database, "SELECT payload->'actor' FROM outbox") == {"id": "alice"}
    assert "api_key" not in structlog.contextvars.get_contextvars(), "the next request is somebody else's"
    again = await client.post(TASKS, json={"title": "by a script"}, headers=ALICE | {"Idempotency-Key": "k"})
    assert (again.headers["Idempotent-Replayed"], again.json()) == ("true", made.json())


async def test_what_was_done_with_more_scopes_is_not_replayed_to_a_key_with_fewer(client: httpx2.AsyncClient) -> None:
    task = {"title": "x"}
    await client.post(TASKS, json=task, headers=ALICE | {"Idempotency-Key": "k"})
    reader = sent_with((await make_key(client, "tasks:read"))["key"])
    assert (await client.post(TASKS, json=task, headers=reader | {"Idempotency-Key": "k"})).status_code == 403


async def test_a_key_manages_no_keys_whatever_its_scopes(client: httpx2.AsyncClient) -> None:
    key = await make_key(client)
    for method, path, body in (
        ("POST", KEYS, {"name": "x", "scopes": ["tasks:read"]}),
        ("GET", KEYS, None),
        ("POST", f"{KEYS}/{key['id']}/rotate", {"overlap_seconds": 0}),
        ("DELETE", f"{KEYS}/{key['id']}", None),
    ):
        answer = await client.request(method, path, json=body, headers=sent_with(key["key"]))
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert "no API key has; sign in instead" in answer.json()["detail"]


async def test_even_a_row_that_says_so_gives_a_key_no_role_and_nothing_that_keys_never_have(
    client: httpx2.AsyncClient, database: Database, app: FastAPI
) -> None:
    key = await make_key(client)
    more = "ARRAY['tasks:read', 'audit:read-all', 'api-keys:manage', 'of-another-version']"
    await execute(database, f"UPDATE api_keys SET scopes = {more}")
    principal = await app.state.authenticators[0].verify(key["key"])
    assert principal.roles == frozenset()
    assert not principal.may("audit:read-all")
    assert (await client.get(KEYS, headers=sent_with(key["key"]))).status_code == 403
    assert await status_of(client, key["key"]) == 200


async def test_a_mistyped_key_and_a_token_ask_the_database_nothing_and_a_key_asks_it_once(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    key = (await make_key(client))["key"]
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    for credential, asked in ((wrong, []), ("tw_", []), (key, ["SELECT", "SELECT"])):
        with sent_statements() as sent:
            answer = await client.get(TASKS, headers=sent_with(credential))
        assert sent == asked
        assert answer.status_code == (200 if asked else 401)
    with sent_statements() as sent:
        await client.get(TASKS, headers=ALICE)
    assert sent == ["SELECT"], "the list alone"
    refused = await client.get(TASKS, headers=sent_with(wrong))
    assert (refused.json()["code"], refused.headers["WWW-Authenticate"]) == (
        "unauthenticated",
        'Bearer error="invalid_token"',
    )


async def test_a_key_that_does_not_hold_takes_the_same_way_as_one_that_does_and_says_not_why(
    client: httpx2.AsyncClient, sent_statements: SentStatements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement, one hash, one comparison in constant time, whatever is known of the key."""
    good, revoked = await make_key(client), await make_key(client)
    await client.delete(f"{KEYS}/{revoked['id']}", headers=ALICE)
    other = new_key_text().text
    forged = _checked(good["key"][:16] + other[16:-6])
    work, details = list[tuple[int, int]](), set[str]()
    compare, digest = hmac.compare_digest, hmac.digest
    counts = {"compared": 0, "hashed": 0}

    def counting_compare(one: bytes, two: bytes) -> bool:
        counts["compared"] += len(one) == len(two) == 32
        return compare(one, two)

    def counting_digest(secret: bytes, message: bytes, name: str) -> bytes:
        counts["hashed"] += message.startswith(b"tw_")
        return digest(secret, message, name)

    monkeypatch.setattr(hmac, "compare_digest", counting_compare)
    monkeypatch.setattr(hmac, "digest", counting_digest)
    for key, status in ((good["key"], 200), (other, 401), (forged, 401), (revoked["key"], 401)):
        counts |= {"compared": 0, "hashed": 0}
        with sent_statements() as sent:
            answer = await client.get("/api/v1/calendar-feeds", headers=sent_with(key))
        assert sent == ["SELECT"], "of the key alone: it lacks the scope"
        assert answer.status_code == (403 if status == 200 else 401)
        work.append((counts["compared"], counts["hashed"]))
        if status == 401:
            details.add(answer.json()["detail"])
    assert work == [(1, 1)] * 4
    assert details == {"The API key is not valid."}


def _checked(begin: str) -> str:
    """Give a key of another's public id with a checksum that is right."""
    from chassis.identity import api_key_text

    return begin + api_key_text._checksum(begin)


async def test_a_key_ends_when_it_was_said_that_it_would(
    client: httpx2.AsyncClient, database: Database, app: FastAPI
) -> None:
    key = await make_key(client, expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert await status_of(client, key["key"]) == 200
    principal = await app.state.authenticators[0].verify(key["key"])
    assert principal.expires_at == datetime.fromisoformat(key["expires_at"]).timestamp(), "for streams"
    await client.post(f"{KEYS}/{key['id']}/rotate", json={"overlap_seconds": 60}, headers=ALICE)
    ends_earlier = (await app.state.authenticators[0].verify(key["key"])).expires_at
    assert ends_earlier is not None
    assert ends_earlier < principal.expires_at, "with its overlap"
    await execute(database, "UPDATE api_keys SET expires_at = now()")
    answer = await client.get(TASKS, headers=sent_with(key["key"]))
    assert (answer.status_code, answer.json()["detail"]) == (401, "The API key has expired.")
    body = {"overlap_seconds": 60}
    rotated = await client.post(f"{KEYS}/{key['id']}/rotate", json=body, headers=ALICE)
    assert (rotated.status_code, rotated.json()["code"]) == (409, "api_key_ended")


async def test_a_database_that_is_away_is_no_reason_to_refuse_a_key(settings: TaskApiSettings) -> None:
    async with serving(create_app(settings_for(TaskApiSettings))) as client:
        answer = await client.get(TASKS, headers=sent_with(new_key_text().text))
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert answer.headers["Retry-After"]


async def test_when_it_was_used_last_is_written_beside_the_request_and_not_more_than_once_a_minute(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = await make_key(client)
    assert key["last_used_at"] is None
    began = datetime.now(UTC)

    async def used(since: datetime) -> bool:
        assert await status_of(client, key["key"]) == 200
        shown = (await client.get(f"{KEYS}/{key['id']}", headers=ALICE)).json()["last_used_at"]
        return shown is not None and datetime.fromisoformat(shown) >= since

    async def used_once() -> bool:
        return await used(began)

    assert await within(PATIENCE, used_once, 0.2)
    writes = "SELECT xmin FROM api_keys"
    once = await value(database, writes)
    await status_of(client, key["key"])
    assert await value(database, writes) == once
    await execute(database, "UPDATE api_keys SET last_used_at = now() - interval '59 s'")
    pending = KeyUses()
    secret = FoundSecret("a", b"", "p", None, key["id"], "alice", [], None, began)
    for seconds, noted in ((59, False), (60, True)):
        pending.note(secret, began + timedelta(seconds=seconds), None)
        assert bool(pending._at) == noted


async def test_a_use_that_cannot_be_written_fails_no_request_and_is_written_later(
    client: httpx2.AsyncClient, database: Database, settings: TaskApiSettings
) -> None:
    key, uses = await make_key(client), KeyUses()
    secret = FoundSecret("a", b"", "p", None, key["id"], "alice", [], None, None)
    uses.note(secret, datetime.now(UTC), None)
    away = open_database(settings_for(TaskApiSettings), application_name="test")
    with pytest.raises(DatabaseUnavailableError):
        await uses.write(away)
    await away.close()
    async with database.session() as session:  # somebody changes the key: nobody waits
        await (await session.connection()).execute(text("SELECT 1 FROM api_keys FOR UPDATE"))
        async with asyncio.timeout(PATIENCE):
            await uses.write(database)
    assert await value(database, "SELECT last_used_at FROM api_keys") is None
    uses.note(secret, datetime.now(UTC), None)
    await uses.write(database)
    assert await value(database, "SELECT last_used_at FROM api_keys") is not None


async def test_a_stream_ends_with_its_key_whether_that_expires_or_is_revoked(
    settings: TaskApiSettings, database: Database
) -> None:
    app = create_app(settings)
    async with serving(app) as client, listening(app) as url, httpx2.AsyncClient(base_url=url, timeout=None) as http:
        revoked, kept = [await make_key(client) for _ in range(2)]

        async def one_expires(seconds: float) -> bool:
            ends = datetime.now(UTC) + timedelta(seconds=seconds)
            ends_soon = await make_key(client, expires_at=ends.isoformat())
            try:
                async with event_source(http, f"{TASKS}/stream", sent_with(ends_soon["key"])) as stream:
                    assert await stream.next() is None
                    assert datetime.now(UTC) >= ends
            except StreamRefusedError:  # it took so long that the key had expired before
                return False
            return True

        assert await at_some_pace(one_expires, 2)
        async with (
            event_source(http, f"{TASKS}/stream", sent_with(revoked["key"])) as second,
            event_source(http, f"{TASKS}/stream", sent_with(kept["key"])) as third,
        ):
            await client.delete(f"{KEYS}/{revoked['id']}", headers=ALICE)
            assert await second.next() is None
            made = await client.post(TASKS, json={"title": "x"}, headers=ALICE)
            assert (await third.next() or {})["task"] == made.json()
