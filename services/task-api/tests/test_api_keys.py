"""API keys over HTTP: made, listed, renamed, narrowed, rotated and revoked by their owner."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from chassis.database import Database
from chassis.identity.permissions import IN_A_KEY, NEVER_IN_A_KEY, ROLES
from chassis.testing import bearer, serving
from task_api.api_keys.upkeep import purge
from task_api.app import create_app
from task_api.settings import TaskApiSettings

KEYS, TASKS = "/api/v1/api-keys", "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
Json = dict[str, Any]


async def make_key(client: httpx2.AsyncClient, caller: dict[str, str] = ALICE, **fields: object) -> Json:
    made = await client.post(KEYS, json={"name": "x", "scopes": ["tasks:read"]} | fields, headers=caller)
    assert made.status_code == 201, made.text
    shown: Json = made.json()
    return shown


async def rotate(client: httpx2.AsyncClient, key: Json, overlap_seconds: int) -> Json:
    body = {"overlap_seconds": overlap_seconds}
    rotated = await client.post(f"{KEYS}/{key['id']}/rotate", json=body, headers=ALICE)
    assert rotated.status_code == 200, rotated.text
    shown: Json = rotated.json()
    return shown


async def works(client: httpx2.AsyncClient, key: Json) -> bool:
    answer = await client.get(TASKS, headers={"Authorization": f"Bearer {key['key']}"})
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 200


async def rows(database: Database, sql: str) -> list[Any]:
    async with database.session() as session:
        return list(await (await session.connection()).execute(text(sql)))


async def execute(database: Database, sql: str) -> None:
    async with database.session() as session:
        await (await session.connection()).execute(text(sql))
        await session.commit()


def without_secret(key: Json) -> Json:
    return {name: value for name, value in key.items() if name != "key"}


async def test_a_key_is_shown_once_and_then_only_how_it_begins_and_ends(client: httpx2.AsyncClient) -> None:
    key = await make_key(client, name="  Backup ", scopes=["tasks:write", "tasks:read", "tasks:read"])
    assert (key["name"], key["scopes"]) == ("Backup", ["tasks:read", "tasks:write"])
    assert key["key"].startswith(key["prefix"] + "_")
    assert key["key"].endswith(key["last_characters"])
    shown = await client.get(f"{KEYS}/{key['id']}", headers=ALICE)
    listed = await client.get(KEYS, headers=ALICE)
    assert shown.json() == without_secret(key)
    assert listed.json() == {"items": [without_secret(key)], "next_cursor": None}
    assert key["key"][16:-4] not in shown.text + listed.text


async def test_the_database_holds_no_key_and_nothing_that_a_key_can_be_tried_against(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = await make_key(client)
    everything = str(await rows(database, "SELECT k::text, s::text FROM api_keys k JOIN api_key_secrets s ON true"))
    assert key["key"][16:-4] not in everything
    for digest in ("sha256(:key)", "sha256(substr(:key, 4))"):
        found = f"SELECT count(*) FROM api_key_secrets WHERE digest = {digest}".replace(
            ":key", f"'{key['key']}'::bytea"
        )
        assert await rows(database, found) == [(0,)], "a hash without the pepper"


async def test_the_list_goes_by_pages_and_has_only_ones_own(client: httpx2.AsyncClient) -> None:
    mine = [without_secret(await make_key(client, name=str(number))) for number in range(5)]
    await make_key(client, BOB)
    found, page, query = list[Json](), Json(), {"limit": "2", "total": "true"}
    for count in (2, 2, 1):
        page = (await client.get(KEYS, params=query, headers=ALICE)).json()
        assert (len(page["items"]), page["total"]) == (count, 5)
        found += page["items"]
        if page["next_cursor"]:
            query["cursor"] = page["next_cursor"]
    assert found == mine
    assert page["next_cursor"] is None
    answer = await client.get(KEYS, params=query, headers=BOB)
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_mismatch")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["tasks:everything"]}, "scopes.0"),
        ({"scopes": ["tasks:read", *NEVER_IN_A_KEY]}, "scopes.1"),
        ({"expires_at": "2026-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2200-01-01T00:00:00Z"}, "expires_at"),
        ({"roles": ["admin"]}, "roles"),
        ({"owner_id": "bob"}, "owner_id"),
    ],
)
async def test_what_no_key_can_be_is_refused(client: httpx2.AsyncClient, fields: Json, field: str) -> None:
    answer = await client.post(KEYS, json={"name": "x", "scopes": ["tasks:read"]} | fields, headers=ALICE)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("role", ["admin", "auditor"])
async def test_a_key_is_made_for_nothing_that_only_a_role_allows(client: httpx2.AsyncClient, role: str) -> None:
    assert ROLES[role].isdisjoint(IN_A_KEY)
    for scope in ROLES[role]:
        body = {"name": "x", "scopes": [scope]}
        answer = await client.post(KEYS, json=body, headers=bearer("alice", role))
        assert answer.status_code == 422, scope
        assert f"is never in a key; there are {', '.join(sorted(IN_A_KEY))}" in answer.json()["detail"]


async def test_somebody_elses_key_is_forbidden_and_none_is_not_found(client: httpx2.AsyncClient) -> None:
    key = await make_key(client)
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "mine now"}),
        ("POST", "/rotate", {"overlap_seconds": 0}),
        ("DELETE", "", None),
    ):
        for key_id, caller, status, code in (
            (key["id"], BOB, 403, "api_key_forbidden"),
            (key["id"] + 1, ALICE, 404, "api_key_not_found"),
        ):
            answer = await client.request(method, f"{KEYS}/{key_id}{path}", json=body, headers=caller)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (method, path)
    assert await works(client, key)
    assert (await client.get(f"{KEYS}/{key['id']}", headers=ALICE)).json()["name"] == "x"


async def test_scopes_are_narrowed_from_the_next_request_on_and_never_widened(client: httpx2.AsyncClient) -> None:
    key = await make_key(client, scopes=["tasks:read", "tasks:write"])
    path, mine = f"{KEYS}/{key['id']}", {"Authorization": f"Bearer {key['key']}"}
    narrowed = await client.patch(path, json={"scopes": ["tasks:read"]}, headers=ALICE)
    assert narrowed.json() == without_secret(key) | {"scopes": ["tasks:read"]}
    refused = await client.post(TASKS, json={"title": "x"}, headers=mine)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert "needs the scope tasks:write" in refused.json()["detail"]
    assert await works(client, key)
    for scopes in (["tasks:read", "tasks:write"], ["profile:read"]):
        widened = await client.patch(path, json={"name": "y", "scopes": scopes}, headers=ALICE)
        assert (widened.status_code, widened.json()["code"]) == (422, "scopes_widened")
    renamed = await client.patch(path, json={"name": "y"}, headers=ALICE)
    assert renamed.json() == narrowed.json() | {"name": "y"}


async def test_a_rotated_key_has_another_secret_and_the_old_one_works_for_the_overlap(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = await make_key(client)
    rotated = await rotate(client, key, 3600)
    same = ("id", "name", "scopes", "created_at", "expires_at")
    assert {name: rotated[name] for name in same} == {name: key[name] for name in same}
    assert rotated["prefix"] != key["prefix"]
    overlap = datetime.fromisoformat(rotated["overlap_ends_at"]) - datetime.fromisoformat(rotated["rotated_at"])
    assert overlap == timedelta(hours=1)
    assert await works(client, key)
    assert await works(client, rotated)
    await execute(database, "UPDATE api_key_secrets SET valid_until = now() WHERE valid_until IS NOT NULL")
    assert not await works(client, key)
    assert await works(client, rotated)


async def test_without_overlap_all_secrets_from_before_end_at_once(client: httpx2.AsyncClient) -> None:
    first = await make_key(client)
    second = await rotate(client, first, 604_800)
    third = await rotate(client, second, 0)
    assert [await works(client, key) for key in (first, second, third)] == [False, False, True]
    assert third["overlap_ends_at"] is None


async def test_a_later_rotation_shortens_an_overlap_and_never_makes_it_longer(
    client: httpx2.AsyncClient, database: Database
) -> None:
    first = await make_key(client)
    second = await rotate(client, first, 60)
    third = await rotate(client, second, 3600)
    ends = "SELECT round(extract(epoch FROM valid_until - now())) FROM api_key_secrets ORDER BY valid_until"
    short, long, none = [row[0] for row in await rows(database, ends)]
    assert (short <= 60, 3500 < long <= 3600, none) == (True, True, None)
    await rotate(client, third, 30)
    assert [row[0] is None or row[0] <= 30 for row in await rows(database, ends)] == [True] * 4


async def test_no_more_than_five_secrets_work_at_once(client: httpx2.AsyncClient, database: Database) -> None:
    keys = [await make_key(client)]
    for _ in range(4):
        keys.append(await rotate(client, keys[-1], 3600))
    answer = await client.post(f"{KEYS}/{keys[0]['id']}/rotate", json={"overlap_seconds": 60}, headers=ALICE)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_api_key_secrets")
    assert "5 secrets" in answer.json()["detail"]
    assert [await works(client, key) for key in keys] == [True] * 5
    assert (await rows(database, "SELECT min(valid_until) > now() + '50 min' FROM api_key_secrets"))[0][0] > 0
    await execute(database, "UPDATE api_key_secrets SET valid_until = now() WHERE valid_until IS NOT NULL")
    await rotate(client, keys[-1], 60)
    assert await rows(database, "SELECT count(*) FROM api_key_secrets") == [(2,)], "those that ended are gone"


async def test_two_rotations_at_once_follow_one_after_the_other(settings: TaskApiSettings, database: Database) -> None:
    async with serving(create_app(settings)) as client:
        key = await make_key(client)
        both = await asyncio.gather(*(rotate(client, key, 0) for _ in range(2)))
        assert sorted([await works(client, one) for one in both]) == [False, True]
        assert not await works(client, key)
        shown = (await client.get(f"{KEYS}/{key['id']}", headers=ALICE)).json()
        assert [one["prefix"] == shown["prefix"] for one in both] == [await works(client, one) for one in both]
        overlapping = await asyncio.gather(*(rotate(client, key, 3600) for _ in range(3)))
        assert [await works(client, one) for one in overlapping] == [True] * 3
        endless = "SELECT count(*) FROM api_key_secrets WHERE valid_until IS NULL"
        assert await rows(database, endless) == [(1,)]


async def test_of_many_at_once_no_more_keys_are_made_than_one_may_have(settings: TaskApiSettings) -> None:
    async with serving(create_app(settings)) as client:
        new = {"name": "x", "scopes": ["tasks:read"]}
        answers = await asyncio.gather(*(client.post(KEYS, json=new, headers=ALICE) for _ in range(27)))
        assert sorted(answer.status_code for answer in answers) == [201] * 25 + [409] * 2
        refused = await client.post(KEYS, json=new, headers=ALICE)
        assert refused.json()["code"] == "too_many_api_keys"
        assert "25 API keys" in refused.json()["detail"]
        made = next(answer.json() for answer in answers if answer.status_code == 201)
        assert (await client.delete(f"{KEYS}/{made['id']}", headers=ALICE)).status_code == 204
        assert (await client.post(KEYS, json=new, headers=ALICE)).status_code == 201


async def test_a_revoked_key_is_refused_by_every_replica_and_stays_revoked(
    client: httpx2.AsyncClient, settings: TaskApiSettings
) -> None:
    key = await make_key(client)
    path = f"{KEYS}/{key['id']}"
    async with serving(create_app(settings)) as elsewhere:
        rotated = await rotate(elsewhere, key, 60)
        assert await works(elsewhere, key)
        assert await works(elsewhere, rotated)
        for _ in range(2):
            assert (await client.delete(path, headers=ALICE)).status_code == 204
            assert not await works(elsewhere, key)
            assert not await works(elsewhere, rotated)
    shown = (await client.get(path, headers=ALICE)).json()
    assert datetime.fromisoformat(shown["revoked_at"]) <= datetime.now(UTC)
    for method, tail, body in (("PATCH", "", {"name": "y"}), ("POST", "/rotate", {"overlap_seconds": 60})):
        answer = await client.request(method, path + tail, json=body, headers=ALICE)
        assert (answer.status_code, answer.json()["code"]) == (409, "api_key_ended")


async def test_what_has_ended_is_forgotten_after_a_while(client: httpx2.AsyncClient, database: Database) -> None:
    kept, revoked = await make_key(client), await make_key(client)
    await rotate(client, kept, 60)
    await client.delete(f"{KEYS}/{revoked['id']}", headers=ALICE)
    now = datetime.now(UTC)
    counted = "SELECT (SELECT count(*) FROM api_keys), (SELECT count(*) FROM api_key_secrets)"
    for later, left in ((timedelta(), (2, 2)), (timedelta(days=29), (2, 1)), (timedelta(days=31), (1, 1))):
        await purge(database, now + later)
        assert await rows(database, counted) == [left]
    assert (await client.get(f"{KEYS}/{revoked['id']}", headers=ALICE)).status_code == 404
    assert (await client.get(f"{KEYS}/{kept['id']}", headers=ALICE)).status_code == 200
