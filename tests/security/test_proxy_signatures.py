"""Signed requests of a trusted proxy: what holds, and every way in which one does not."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest
from tests.security.proxy import OTHER_KEY, OTHER_SECRET, Signed

from chassis.identity.proxy import signed_request
from chassis.testing import bearer, serving
from devstack.polling import within
from task_api.app import create_app
from task_api.settings import TaskApiSettings

BODY = b'{"title": "Pay rent"}'
CREATE = Signed("POST", "/api/v1/tasks", BODY)


async def send(client: httpx2.AsyncClient, signed: Signed, **instead: str) -> httpx2.Response:
    return await client.request(signed.method, signed.target, content=signed.body, headers=signed.headers(**instead))


def assert_refused(response: httpx2.Response, reason: str) -> None:
    assert response.status_code == 401, response.text
    assert response.headers["WWW-Authenticate"] == 'Taskwire-HMAC-SHA256 error="invalid_signature"'
    assert reason in response.json()["detail"]


@pytest.mark.parametrize("subject", ["alice", "zoë,key=edge-2", "a+b%2C/c"])
async def test_a_signed_request_is_the_subjects_own(proxied: httpx2.AsyncClient, subject: str) -> None:
    created = await send(proxied, Signed("POST", "/api/v1/tasks", BODY, subject))
    assert created.status_code == 201, created.text
    listed = await send(proxied, Signed(target="/api/v1/tasks?limit=5&q=pay%20rent", subject=subject))
    assert [task["id"] for task in listed.json()["items"]] == [created.json()["id"]]
    assert (await send(proxied, Signed(subject="someone-else"))).json()["items"] == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_without_a_body_the_hash_is_of_nothing(proxied: httpx2.AsyncClient, method: str) -> None:
    assert (await send(proxied, Signed(method))).status_code == 200
    other = await send(proxied, Signed(method), body=hashlib.sha256(b"x").hexdigest())
    assert other.status_code == 401


async def test_two_keys_are_active_at_once_and_each_has_its_own_secret(proxied: httpx2.AsyncClient) -> None:
    assert (await send(proxied, Signed(key=OTHER_KEY, secret=OTHER_SECRET))).status_code == 200
    assert_refused(await send(proxied, Signed(secret=OTHER_SECRET)), "The signature does not hold.")
    assert_refused(await send(proxied, Signed(key="edge-3")), "The signature does not hold.")


async def test_a_signed_request_is_taken_once_by_all_replicas(replicas: list[httpx2.AsyncClient]) -> None:
    headers = Signed().headers()
    answers = await asyncio.gather(
        *(replica.get("/api/v1/tasks", headers=headers) for replica in replicas for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    for answer in answers:
        if answer.status_code == 401:
            assert_refused(answer, "The nonce was used before")


CHANGES = {
    "method": {"method": "DELETE", "url": "/api/v1/tasks/1"},
    "path": {"url": "/api/v1/tasks/2"},
    "encoding of the path": {"url": "/api/v1/%74asks/1"},
    "query": {"url": "/api/v1/tasks/1?x=1"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_request_that_is_not_the_signed_one_is_refused(
    proxied: httpx2.AsyncClient, change: dict[str, str]
) -> None:
    headers = Signed(target="/api/v1/tasks/1").headers()
    sent = {"method": "GET", "url": "/api/v1/tasks/1"} | change
    response = await proxied.request(sent["method"], sent["url"], headers=headers)
    assert_refused(response, "The signature does not hold.")


@pytest.mark.parametrize("query", ["limit=50", "limit=5&limit=50", "limit=%35", "limit=5&", "", "LIMIT=5"])
async def test_a_query_counts_byte_for_byte(proxied: httpx2.AsyncClient, query: str) -> None:
    headers = Signed(target="/api/v1/tasks?limit=5").headers()
    assert_refused(await proxied.get(f"/api/v1/tasks?{query}", headers=headers), "The signature does not hold.")


@pytest.mark.parametrize(
    "instead",
    [{"subject": "mallory"}, {"roles": "auditor"}, {"nonce": "a" * 16}, {"time": "1"}, {"key": OTHER_KEY},
     {"body": "0" * 64}, {"signature": "0" * 64}],
    ids=str,
)  # fmt: skip
async def test_a_value_that_is_not_the_signed_one_is_refused(
    proxied: httpx2.AsyncClient, instead: dict[str, str]
) -> None:
    assert_refused(await send(proxied, Signed(), **instead), "The signature does not hold.")


async def test_a_request_for_another_service_is_refused(proxied: httpx2.AsyncClient) -> None:
    assert_refused(await send(proxied, Signed(service="notifier")), "The signature does not hold.")


@pytest.mark.parametrize("content", [b'{"title": "Pay Mallory"}', b"", BODY + b" "], ids=repr)
async def test_another_body_than_the_signed_one_has_no_effect(proxied: httpx2.AsyncClient, content: bytes) -> None:
    response = await proxied.post("/api/v1/tasks", content=content, headers=CREATE.headers())
    assert_refused(response, "The body is not the one that was signed.")
    assert (await send(proxied, Signed())).json()["items"] == []


async def test_a_body_in_chunks_is_the_same_body(proxied: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in BODY:
            yield bytes([byte])

    response = await proxied.post("/api/v1/tasks", content=pieces(), headers=CREATE.headers())
    assert response.status_code == 201, response.text


@pytest.mark.parametrize(("age", "holds"), [(45, True), (-45, True), (75, False), (-75, False)])
async def test_a_signature_holds_for_a_minute_either_way(proxied: httpx2.AsyncClient, age: int, holds: bool) -> None:
    response = await send(proxied, Signed(age=age))
    if holds:
        assert response.status_code == 200
    else:
        assert_refused(response, "more than 60 seconds")


async def test_a_proxy_gives_only_roles_that_it_may_give(proxied: httpx2.AsyncClient) -> None:
    assert (await send(proxied, Signed(roles="auditor"))).status_code == 200
    for roles in ("admin", "auditor+admin", "no-such-role"):
        assert_refused(await send(proxied, Signed(roles=roles)), "a role that it may not give")


@pytest.mark.parametrize(
    "change",
    [
        ("subject=alice", "subject=alice,subject=bob"),
        ("subject=alice", "subject=alice bob"),
        ("subject=alice", 'subject="alice"'),
        ("subject=alice", "subject=%61%6c"),
        ("subject=alice", ""),
        ("key=", "Key="),
        ("key=edge-1", "key=edge-1,admin=true"),
        ("key=edge-1", "key=" + "k" * 5000),
    ],
    ids=lambda change: change[1][:30],
)
async def test_a_malformed_credential_is_refused(proxied: httpx2.AsyncClient, change: tuple[str, str]) -> None:
    credential = Signed().credential().replace(*change)
    response = await proxied.get("/api/v1/tasks", headers={"Authorization": credential})
    assert response.status_code == 401
    assert "The credential" in response.json()["detail"]


@pytest.mark.parametrize("subject", ["a\nb", "a b", "", "\x00", "x" * 256])
async def test_a_subject_that_no_token_may_have_is_refused(proxied: httpx2.AsyncClient, subject: str) -> None:
    assert (await send(proxied, Signed(subject=subject))).status_code == 401


async def test_of_two_credentials_neither_counts(proxied: httpx2.AsyncClient) -> None:
    lines = [("Authorization", Signed().credential()), ("Authorization", bearer("bob")["Authorization"])]
    for headers in (lines, lines[::-1]):
        assert (await proxied.get("/api/v1/tasks", headers=headers)).status_code == 401


async def test_without_the_store_of_nonces_nobody_gets_in(proxied_settings: TaskApiSettings) -> None:
    impatient = proxied_settings.model_copy(update={"database_lock_timeout": 0.5})
    connection = await asyncpg.connect(str(proxied_settings.database_url))
    try:
        async with serving(create_app(impatient)) as client:
            async with connection.transaction():
                await connection.execute("LOCK TABLE proxy_nonces IN ACCESS EXCLUSIVE MODE")
                assert (await send(client, CREATE)).status_code == 503
            await connection.execute("ALTER TABLE proxy_nonces RENAME TO elsewhere")
            assert (await send(client, CREATE)).status_code >= 500
    finally:
        await connection.close()


async def test_nonces_are_forgotten_after_their_time_and_no_sooner(
    proxied: httpx2.AsyncClient, proxied_settings: TaskApiSettings
) -> None:
    headers = Signed().headers()
    assert (await proxied.get("/api/v1/tasks", headers=headers)).status_code == 200
    connection = await asyncpg.connect(str(proxied_settings.database_url))
    await connection.execute("INSERT INTO proxy_nonces VALUES ('k', 'old', now() - interval '1 second')")
    async with serving(create_app(proxied_settings)) as restarted:  # it purges when it starts

        async def is_gone() -> bool:
            return not await connection.fetchval("SELECT true FROM proxy_nonces WHERE nonce = 'old'")

        assert await within(90, is_gone, 0.05)
        assert (await restarted.get("/api/v1/tasks", headers=headers)).status_code == 401
    left = await connection.fetch("SELECT extract(epoch FROM expires_at - now()) FROM proxy_nonces")
    await connection.close()
    assert [60 < lifetime <= 600 for (lifetime,) in left] == [True]


def a_file(tasks: int) -> bytes:
    listed = [{"id": number, "title": f"Task {number} " + "x" * 150} for number in range(tasks)]
    return json.dumps({"format": "taskwire-tasks", "version": 1, "tasks": listed}).encode()


async def test_a_file_is_imported_only_when_all_of_it_was_compared(
    proxied: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_request, "MEMORY_BYTES", 64 * 1024)
    body = a_file(1200)
    signed = Signed("POST", "/api/v1/tasks/import", body)
    tampered = body[:-200] + body[-200:].replace(b"xx", b"yy", 1)
    headers = signed.headers() | {"Idempotency-Key": "one"}
    assert_refused(await proxied.post(signed.target, content=tampered, headers=headers), "The body is not the one")
    assert (await send(proxied, Signed())).json()["items"] == []
    headers = signed.headers() | {"Idempotency-Key": "one"}
    response = await proxied.post(signed.target, content=body, headers=headers)
    assert (response.status_code, response.json()["created"]) == (200, 1200), response.text


async def test_what_is_refused_shows_no_secret_and_no_signature(
    proxied: httpx2.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    signed = Signed(secret="not-the-secret-but-as-long-as-one-needs-to-be")
    credential = signed.credential()
    response = await proxied.get("/api/v1/tasks", headers={"Authorization": credential})
    said = response.text + str(response.headers) + capfd.readouterr().out
    for value in (signed.secret, *credential.split("signature=")[1:]):
        assert value not in said
