"""Engagements: who is in them, in which role, and that there is always an owner."""

from typing import Any, Final

import httpx2
import pytest

from chassis.testing import bearer

ENGAGEMENTS: Final = "/api/v1/engagements"
ALICE, BOB, CAROL, DAVE = (bearer(name) for name in ("alice", "bob", "carol", "dave"))
Json = dict[str, Any]


async def engagement(client: httpx2.AsyncClient, *, headers: dict[str, str] = ALICE, **members: str) -> int:
    """Make an engagement of alice's, with members of such roles."""
    made = await client.post(ENGAGEMENTS, json={"name": "Kitchen"}, headers=headers)
    assert made.status_code == 201, made.text
    engagement_id: int = made.json()["id"]
    for name, role in members.items():
        await join(client, engagement_id, name, role, by=headers)
    return engagement_id


async def invite(client: httpx2.AsyncClient, engagement_id: int, *, by: dict[str, str] = ALICE, **said: object) -> Json:
    answer = await client.post(f"{ENGAGEMENTS}/{engagement_id}/invitations", json=said, headers=by)
    assert answer.status_code == 201, answer.text
    issued: Json = answer.json()
    return issued


async def accept(client: httpx2.AsyncClient, token: str, name: str) -> httpx2.Response:
    return await client.post(f"{ENGAGEMENTS}/invitations/accept", json={"token": token}, headers=bearer(name))


async def join(
    client: httpx2.AsyncClient, engagement_id: int, name: str, role: str, *, by: dict[str, str] = ALICE
) -> None:
    issued = await invite(client, engagement_id, by=by, role=role)
    joined = await accept(client, issued["token"], name)
    assert joined.status_code == 200, joined.text


async def members(client: httpx2.AsyncClient, engagement_id: int, headers: dict[str, str] = ALICE) -> dict[str, str]:
    answer = await client.get(f"{ENGAGEMENTS}/{engagement_id}/members", headers=headers)
    assert answer.status_code == 200, answer.text
    return {member["user_id"]: member["role"] for member in answer.json()["items"]}


async def test_who_makes_an_engagement_is_its_owner(client: httpx2.AsyncClient) -> None:
    made = await client.post(ENGAGEMENTS, json={"name": "  Kitchen "}, headers=ALICE)
    shown = made.json()
    assert (made.status_code, made.headers["etag"]) == (201, f'"{shown["id"]}-1"')
    assert made.headers["location"] == f"{ENGAGEMENTS}/{shown['id']}"
    assert shown | {"created_at": "", "updated_at": ""} == {
        "id": shown["id"], "name": "Kitchen", "role": "owner", "version": 1, "created_at": "", "updated_at": "",
    }  # fmt: skip
    got = await client.get(made.headers["location"], headers=ALICE)
    assert got.json() == shown
    fresh = await client.get(made.headers["location"], headers=ALICE | {"If-None-Match": made.headers["etag"]})
    assert fresh.status_code == 304
    assert await members(client, shown["id"]) == {"alice": "owner"}


async def test_ones_engagements_are_listed_page_by_page_and_nobody_elses(client: httpx2.AsyncClient) -> None:
    made = [await engagement(client) for _ in range(3)]
    await engagement(client, headers=BOB)
    first = (await client.get(f"{ENGAGEMENTS}?limit=2", headers=ALICE)).json()
    rest = (await client.get(f"{ENGAGEMENTS}?limit=2&cursor={first['next_cursor']}", headers=ALICE)).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == made
    assert rest["next_cursor"] is None


async def test_a_name_is_changed_by_who_saw_the_one_before(client: httpx2.AsyncClient) -> None:
    path = f"{ENGAGEMENTS}/{await engagement(client)}"
    tag = (await client.get(path, headers=ALICE)).headers["etag"]
    renamed = await client.patch(path, json={"name": "Bath"}, headers=ALICE | {"If-Match": tag})
    assert (renamed.status_code, renamed.json()["name"], renamed.json()["version"]) == (200, "Bath", 2)
    again = await client.patch(path, json={"name": "Cellar"}, headers=ALICE | {"If-Match": tag})
    assert (again.status_code, again.json()["code"]) == (412, "precondition_failed")
    same = await client.patch(path, json={"name": "Bath"}, headers=ALICE)
    assert same.json()["version"] == 2


async def test_a_write_sent_again_under_its_key_is_done_once(client: httpx2.AsyncClient) -> None:
    keyed = ALICE | {"Idempotency-Key": "k-1"}
    answers = [await client.post(ENGAGEMENTS, json={"name": "Kitchen"}, headers=keyed) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert len((await client.get(ENGAGEMENTS, headers=ALICE)).json()["items"]) == 1


@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
async def test_an_invitation_lets_one_person_in_once(client: httpx2.AsyncClient, role: str) -> None:
    engagement_id = await engagement(client)
    issued = await invite(client, engagement_id, role=role)
    assert issued["token"].startswith(issued["token_hint"])
    answers = [await accept(client, issued["token"], "bob") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == {"engagement_id": engagement_id, "name": "Kitchen", "role": role} == answers[1].json()
    late = await accept(client, issued["token"], "carol")
    assert (late.status_code, late.json()["code"]) == (404, "invitation_not_found")
    assert await members(client, engagement_id) == {"alice": "owner", "bob": role}


async def test_a_token_that_opens_nothing_never_says_why(client: httpx2.AsyncClient) -> None:
    engagement_id = await engagement(client, dave="viewer")
    path = f"{ENGAGEMENTS}/{engagement_id}"
    foreign = await invite(client, engagement_id, role="editor", subject="carol")
    revoked = await invite(client, engagement_id, role="editor")
    gone = await client.delete(f"{path}/invitations/{revoked['id']}", headers=ALICE)
    used = await invite(client, engagement_id, role="editor")
    await accept(client, used["token"], "carol")
    removed = await invite(client, engagement_id, role="editor")
    await accept(client, removed["token"], "bob")
    await client.delete(f"{path}/members/bob", headers=ALICE)
    of_deleted = await invite(client, ended := await engagement(client), role="editor")
    await client.delete(f"{ENGAGEMENTS}/{ended}", headers=ALICE)
    tokens = [issued["token"] for issued in (foreign, revoked, used, removed, of_deleted)]
    answers = [await accept(client, token, "bob") for token in ["twinv_nothing", "x", *tokens]]
    assert gone.status_code == 204
    assert {answer.status_code for answer in answers} == {404}
    assert len({(answer.json()["code"], answer.json()["detail"]) for answer in answers}) == 1
    assert set(await members(client, engagement_id)) == {"alice", "carol", "dave"}


async def test_an_invitation_for_one_subject_is_for_that_one(client: httpx2.AsyncClient) -> None:
    engagement_id = await engagement(client)
    issued = await invite(client, engagement_id, role="viewer", subject="bob")
    assert (await accept(client, issued["token"], "carol")).status_code == 404
    assert (await accept(client, issued["token"], "bob")).status_code == 200


async def test_who_is_in_already_keeps_the_role_and_the_invitation_stays(client: httpx2.AsyncClient) -> None:
    engagement_id = await engagement(client, bob="viewer")
    issued = await invite(client, engagement_id, role="owner")
    assert (await accept(client, issued["token"], "bob")).json()["role"] == "viewer"
    listed = (await client.get(f"{ENGAGEMENTS}/{engagement_id}/invitations", headers=ALICE)).json()["items"]
    assert [item["id"] for item in listed] == [issued["id"]]
    assert "token" not in listed[0]


async def test_the_last_owner_can_neither_leave_nor_take_a_smaller_role(client: httpx2.AsyncClient) -> None:
    path = f"{ENGAGEMENTS}/{await engagement(client, bob='editor')}"
    tried = [
        await client.post(f"{path}/leave", headers=ALICE),
        await client.delete(f"{path}/members/alice", headers=ALICE),
        await client.patch(f"{path}/members/alice", json={"role": "editor"}, headers=ALICE),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in tried] == [(409, "last_owner")] * 3
    raised = await client.patch(f"{path}/members/bob", json={"role": "owner"}, headers=ALICE)
    assert (raised.status_code, raised.json()["role"]) == (200, "owner")
    assert (await client.post(f"{path}/leave", headers=ALICE)).status_code == 204
    assert (await client.get(path, headers=ALICE)).status_code == 403


async def test_ownership_goes_over_to_another_member(client: httpx2.AsyncClient) -> None:
    engagement_id = await engagement(client, bob="viewer")
    path = f"{ENGAGEMENTS}/{engagement_id}/transfer"
    nobody = await client.post(path, json={"user_id": "carol"}, headers=ALICE)
    assert (nobody.status_code, nobody.json()["code"]) == (404, "member_not_found")
    over = await client.post(path, json={"user_id": "bob"}, headers=ALICE)
    assert (over.status_code, over.json()["role"]) == (200, "editor")
    assert await members(client, engagement_id) == {"alice": "editor", "bob": "owner"}
    assert (await client.post(path, json={"user_id": "alice"}, headers=ALICE)).status_code == 403


async def test_a_member_with_any_name_can_be_removed(client: httpx2.AsyncClient) -> None:
    engagement_id = await engagement(client)
    await join(client, engagement_id, "https://id.example/users/7", "viewer")
    path = f"{ENGAGEMENTS}/{engagement_id}/members/https%3A%2F%2Fid.example%2Fusers%2F7"
    assert (await client.delete(path, headers=ALICE)).status_code == 204
    assert (await client.delete(path, headers=ALICE)).status_code == 404
    assert await members(client, engagement_id) == {"alice": "owner"}


async def test_a_user_who_is_called_like_an_engagement_is_let_in_nowhere(client: httpx2.AsyncClient) -> None:
    engagement_id = await engagement(client)
    answer = await client.get("/api/v1/tasks", headers=bearer(f"engagement:{engagement_id}"))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    invited = await client.post(
        f"{ENGAGEMENTS}/{engagement_id}/invitations",
        json={"role": "viewer", "subject": "engagement:7"},
        headers=ALICE,
    )
    assert invited.status_code == 422


@pytest.mark.parametrize("days", [0, 31])
async def test_an_invitation_expires_within_thirty_days(client: httpx2.AsyncClient, days: int) -> None:
    from datetime import UTC, datetime, timedelta

    at = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    path = f"{ENGAGEMENTS}/{await engagement(client)}/invitations"
    answer = await client.post(path, json={"role": "viewer", "expires_at": at}, headers=ALICE)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "expires_at")
