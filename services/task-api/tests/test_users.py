"""Profiles: defaults until the first change, merged changes, and nothing that can be read in the database."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from chassis.database import Database
from chassis.testing import bearer

ME = "/api/v1/users/me"
ALICE = bearer("alice")
DEFAULTS: dict[str, object] = {
    "id": "alice",
    "name": None,
    "email": None,
    "time_zone": "UTC",
    "locale": "en",
    "preferences": {},
    "version": 0,
    "created_at": None,
    "updated_at": None,
}


async def patch(client: httpx2.AsyncClient, **fields: object) -> dict[str, Any]:
    answer = await client.patch(ME, json=fields, headers=ALICE)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def stored(database: Database) -> list[Any]:
    async with database.session() as session:
        return list(await (await session.connection()).execute(text("SELECT * FROM profiles")))


async def test_who_said_nothing_has_defaults_and_reading_them_writes_nothing(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.get(ME, headers=ALICE)
    assert (answer.json(), answer.headers["ETag"]) == (DEFAULTS, '"profile-0"')
    assert await stored(database) == []


async def test_what_is_said_is_kept_and_what_is_not_named_stays(client: httpx2.AsyncClient) -> None:
    first = await patch(client, name=" Alice Martin ", email="alice@example.org", time_zone="Europe/Paris")
    second = await patch(client, locale="fr-CA", name=None)
    assert (first["name"], first["version"]) == ("Alice Martin", 1)
    assert (second["name"], second["email"], second["time_zone"], second["locale"], second["version"]) == (
        None, "alice@example.org", "Europe/Paris", "fr-CA", 2,
    )  # fmt: skip
    assert (await client.get(ME, headers=ALICE)).json() == second
    assert (await client.get(ME, headers=bearer("bob"))).json()["email"] is None


async def test_the_same_change_again_changes_nothing(client: httpx2.AsyncClient) -> None:
    assert await patch(client, name="Alice") == await patch(client, name="Alice")
    assert await patch(client) == await patch(client, name="Alice")


async def test_preferences_are_merged_member_by_member(client: httpx2.AsyncClient) -> None:
    await patch(client, preferences={"theme": "dark", "board": {"columns": 3, "wide": True}})
    merged = await patch(client, preferences={"theme": None, "board": {"columns": 4}})
    assert merged["preferences"] == {"board": {"columns": 4, "wide": True}}
    assert (await patch(client, preferences=None))["preferences"] == {}


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"name": "  "}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"email": "nobody"}, "email"),
        ({"email": f"{'x' * 250}@example.org"}, "email"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"locale": "not a locale"}, "locale"),
        ({"preferences": {"a": {"b": {"c": {"d": {"e": {}}}}}}}, "preferences"),
        ({"preferences": {"a": "x" * 16_384}}, "preferences"),
        ({"preferences": {"a": "\x00"}}, "preferences"),
        ({"preferences": []}, "preferences"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    client: httpx2.AsyncClient, fields: dict[str, Any], refused: str
) -> None:
    answer = await client.patch(ME, json=fields, headers=ALICE)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(refused)


async def test_preferences_cannot_grow_past_the_limit_by_merging(client: httpx2.AsyncClient) -> None:
    await patch(client, preferences={"a": "x" * 10_000})
    answer = await client.patch(ME, json={"preferences": {"b": "x" * 10_000}}, headers=ALICE)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "preferences")
    assert list((await client.get(ME, headers=ALICE)).json()["preferences"]) == ["a"]


async def test_who_saw_an_older_version_does_not_overwrite(client: httpx2.AsyncClient) -> None:
    for condition, status in (('"profile-1"', 412), ('"profile-0"', 200), ('"profile-0"', 412), ("*", 200)):
        headers = ALICE | {"If-Match": condition}
        answer = await client.patch(ME, json={"name": f"by {status}{condition}"}, headers=headers)
        assert answer.status_code == status
    fresh = await client.get(ME, headers=ALICE | {"If-None-Match": '"profile-2"'})
    assert (fresh.status_code, fresh.headers["ETag"]) == (304, '"profile-2"')


async def test_first_changes_at_once_are_all_merged(client: httpx2.AsyncClient) -> None:
    await asyncio.gather(*(patch(client, preferences={f"key-{number}": number}) for number in range(8)))
    shown = (await client.get(ME, headers=ALICE)).json()
    assert (len(shown["preferences"]), shown["version"]) == (8, 8)


async def test_name_and_address_cannot_be_read_in_the_database(client: httpx2.AsyncClient, database: Database) -> None:
    await patch(client, name="Alice Martin", email="alice@example.org")
    (row,) = await stored(database)
    assert b"Martin" not in row.name
    assert b"example" not in row.email
    assert "Martin" not in str(row)


async def test_a_ciphertext_put_into_another_column_or_row_does_not_open(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await patch(client, name="Alice Martin", email="alice@example.org")
    for move in ("UPDATE profiles SET name = email", "UPDATE profiles SET user_id = 'bob'"):
        async with database.session() as session:
            await (await session.connection()).execute(text(move))
            await session.commit()
        answer = await client.get(ME, headers=bearer("bob") if "bob" in move else ALICE)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert "example" not in answer.text


async def test_an_export_has_everything_of_its_user_and_nothing_of_others(
    client: httpx2.AsyncClient, sent_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    keys: list[str] = []
    for user in ("alice", "bob"):
        headers = bearer(user)
        ids = []
        for number in range(3):
            made = await client.post("/api/v1/tasks", json={"title": f"{user} {number}"}, headers=headers)
            ids.append(made.json()["id"])
        await client.delete(f"/api/v1/tasks/{ids[0]}", headers=headers)
        await client.post(f"/api/v1/tasks/{ids[1]}/complete", headers=headers)
        await client.post(f"/api/v1/tasks/{ids[1]}/comments", json={"body": f"{user} said"}, headers=headers)
        await client.post("/api/v1/calendar-feeds", json={"name": f"{user}'s"}, headers=headers)
        await client.post("/api/v1/engagements", json={"name": f"{user}'s"}, headers=headers)
        key = {"name": f"{user}'s", "scopes": ["tasks:read"]}
        keys.append((await client.post("/api/v1/api-keys", json=key, headers=headers)).json()["key"])
    await patch(client, name="Alice Martin")
    answer = await client.get(f"{ME}/export", headers=ALICE)
    assert answer.status_code == 200
    whole = answer.json()
    assert (whole["format"], whole["version"], whole["profile"]["name"]) == ("taskwire-account", 1, "Alice Martin")
    assert [task["title"] for task in whole["tasks"]] == ["alice 0", "alice 1", "alice 2"]
    assert [task["deleted_at"] is None for task in whole["tasks"]] == [False, True, True]
    assert [comment["body"] for comment in whole["comments"]] == ["alice said"]
    assert [done["title"] for done in whole["completions"]] == ["alice 1"]
    assert [sorted(feed) for feed in whole["calendar_feeds"]] == [["created_at", "id", "name", "token_created_at"]]
    assert [(one["name"], one["role"]) for one in whole["engagements"]] == [("alice's", "owner")]
    assert [(one["name"], one["scopes"], one["revoked_at"]) for one in whole["api_keys"]] == [
        ("alice's", ["tasks:read"], None)
    ]
    assert "bob" not in answer.text
    assert keys[0][16:-4] not in answer.text
    assert "digest" not in answer.text
    assert whole["elsewhere"].keys() == {"audit_entries", "notifications", "tasks_of_engagements"}
