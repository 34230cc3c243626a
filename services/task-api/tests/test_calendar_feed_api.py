"""Calendar feeds over HTTP: made, listed, rotated, revoked by their owner; read by whoever has the address."""

import asyncio
import hashlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import icalendar
import pytest
from sqlalchemy import QueuePool, text

from chassis.database import Database
from chassis.testing import bearer
from task_api.calendar_feeds.service import CalendarFeeds

FEEDS = "/api/v1/calendar-feeds"
CALENDARS = "/api/v1/calendars"
TASKS = "/api/v1/tasks"
ALICE, BOB = bearer("alice"), bearer("bob")
SentStatements = Callable[[], AbstractContextManager[list[str]]]


async def make_feed(client: httpx2.AsyncClient, caller: dict[str, str] = ALICE, **body: str) -> dict[str, Any]:
    made = await client.post(FEEDS, json=body, headers=caller)
    assert made.status_code == 201, made.text
    shown: dict[str, Any] = made.json()
    return shown


async def make_task(
    client: httpx2.AsyncClient, title: str, caller: dict[str, str] = ALICE, **more: object
) -> dict[str, Any]:
    body = {"title": title, "due_at": "2027-01-31T09:00:00Z"} | more
    made = await client.post(TASKS, json=body, headers=caller)
    assert made.status_code == 201, made.text
    shown: dict[str, Any] = made.json()
    return shown


async def summaries(client: httpx2.AsyncClient, path: str) -> list[str]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    calendar = icalendar.Calendar.from_ical(answer.content)
    return [str(component["summary"]) for component in calendar.walk() if component.name in {"VTODO", "VEVENT"}]


async def rows(database: Database, sql: str) -> list[Any]:
    async with database.session() as session:
        return list(await (await session.connection()).execute(text(sql)))


async def test_a_feed_is_read_with_its_address_alone(client: httpx2.AsyncClient) -> None:
    await make_task(client, "Pay rent")
    await make_task(client, "No date", due_at=None)
    for other in ("aaron", "alice2", "bob"):
        await make_task(client, "Someone else's", bearer(other))
        await make_task(client, "Someone else's, overdue", bearer(other), due_at="2020-01-31T09:00:00Z")
    feed = await make_feed(client, name="  Phone ")
    assert feed["path"] == f"{CALENDARS}/{feed['token']}.ics"
    assert (feed["name"], feed["token"][:12]) == ("Phone", feed["token_hint"])
    answer = await client.get(feed["path"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert await summaries(client, feed["path"]) == ["Pay rent"]
    assert (await client.head(feed["path"])).headers["etag"] == answer.headers["etag"]


async def test_tokens_are_random_and_only_their_hashes_are_kept(client: httpx2.AsyncClient, database: Database) -> None:
    feeds = [await make_feed(client) for _ in range(3)]
    assert len({feed["token"] for feed in feeds}) == 3
    assert all(re.fullmatch(r"twcal_[A-Za-z0-9_-]{43}", feed["token"]) for feed in feeds), "256 bits"
    kept = await rows(database, "SELECT token_digest FROM calendar_feeds ORDER BY id")
    assert [row[0] for row in kept] == [hashlib.sha256(feed["token"].encode()).digest() for feed in feeds]
    everything = str(await rows(database, "SELECT calendar_feeds::text FROM calendar_feeds"))
    assert not any(feed["token"][13:] in everything for feed in feeds)


async def test_the_list_shows_no_token(client: httpx2.AsyncClient) -> None:
    feeds = [await make_feed(client, name=name) for name in ("Phone", "Laptop")]
    await make_feed(client, BOB)
    listed = await client.get(FEEDS, headers=ALICE)
    assert listed.json() == {
        "items": [{name: feed[name] for name in feed if name not in {"token", "path"}} for feed in feeds],
        "next_cursor": None,
    }


async def test_a_rotated_token_opens_and_the_one_before_does_not(client: httpx2.AsyncClient) -> None:
    feed = await make_feed(client)
    rotated = await client.post(f"{FEEDS}/{feed['id']}/rotate", headers=ALICE)
    assert rotated.status_code == 200
    assert rotated.json()["token"] != feed["token"]
    assert {name: rotated.json()[name] for name in ("id", "name", "created_at")} == {
        name: feed[name] for name in ("id", "name", "created_at")
    }
    assert rotated.json()["token_created_at"] > feed["token_created_at"]
    assert (await client.get(rotated.json()["path"])).status_code == 200
    assert (await client.get(feed["path"])).status_code == 404


async def test_what_opens_nothing_is_answered_alike_whatever_it_is(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    feed, other = await make_feed(client), await make_feed(client)
    assert (await client.delete(f"{FEEDS}/{feed['id']}", headers=ALICE)).status_code == 204
    await client.post(f"{FEEDS}/{other['id']}/rotate", headers=ALICE)
    nothing = [
        feed["token"], other["token"], other["token"][:-1], other["token"].lower(), other["token_hint"],
        "twcal_" + "A" * 43, "1", "x" * 4000, "%00", "%ff%fe", "..%5c", "\u0663", "twcal_", " ", "%25",
    ]  # fmt: skip
    answers = []
    for token in nothing:
        with sent_statements() as sent:
            answer = await client.get(
                f"{CALENDARS}/{token}.ics", headers={"X-Request-ID": "r-1", "X-Correlation-ID": "c"}
            )
        headers = sorted(item for item in answer.headers.items() if item[0] != "ratelimit")  # one less each time
        answers.append((answer.status_code, answer.content, headers, sent))
    assert [answer for answer in answers if answer != answers[0]] == []
    status, content, _, sent = answers[0]
    assert (status, sent) == (404, ["SELECT"])
    assert b"calendar_feed_not_found" in content


async def test_feeds_of_others_are_forbidden_and_none_are_not_found(client: httpx2.AsyncClient) -> None:
    feed = await make_feed(client)
    for method, path in (("DELETE", ""), ("POST", "/rotate")):
        theirs = await client.request(method, f"{FEEDS}/{feed['id']}{path}", headers=BOB)
        assert (theirs.status_code, theirs.json()["code"]) == (403, "calendar_feed_forbidden")
        none = await client.request(method, f"{FEEDS}/{feed['id'] + 1}{path}", headers=ALICE)
        assert (none.status_code, none.json()["code"]) == (404, "calendar_feed_not_found")
        assert (await client.request(method, f"{FEEDS}/{feed['id']}{path}")).status_code == 401
    assert (await client.get(feed["path"])).status_code == 200
    assert (await client.delete(f"{FEEDS}/{feed['id']}", headers=ALICE)).status_code == 204
    assert (await client.delete(f"{FEEDS}/{feed['id']}", headers=ALICE)).status_code == 404


async def test_ten_feeds_are_the_limit_also_when_asked_for_at_once(client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post(FEEDS, json={}, headers=ALICE) for _ in range(14)))
    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(refused) == 4
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(409, "too_many_calendar_feeds")}
    assert "10 calendar feeds" in refused[0].json()["detail"]
    assert len((await client.get(FEEDS, headers=ALICE)).json()["items"]) == 10
    await make_feed(client, BOB)


async def test_an_idempotency_key_keeps_no_token(client: httpx2.AsyncClient, database: Database) -> None:
    keyed = ALICE | {"Idempotency-Key": "k-1"}
    made = await client.post(FEEDS, json={}, headers=keyed)
    await client.post(f"{FEEDS}/{made.json()['id']}/rotate", headers=keyed)
    assert await rows(database, "SELECT * FROM idempotency_keys") == []


async def test_the_tag_changes_with_the_tasks_and_only_with_them(client: httpx2.AsyncClient) -> None:
    task, feed = await make_task(client, "Pay rent"), await make_feed(client)
    first = await client.get(feed["path"])
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await client.get(feed["path"], headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await client.get(feed["path"])).content == first.content
    assert (await client.get(feed["path"], params={"as": "events"})).headers["etag"] != tag
    await client.patch(f"{TASKS}/{task['id']}", json={"priority": "high"}, headers=ALICE)
    changed = await client.get(feed["path"], headers={"If-None-Match": tag})
    assert changed.status_code == 200
    await client.delete(f"{TASKS}/{task['id']}", headers=ALICE)
    gone = await client.get(feed["path"], headers={"If-None-Match": changed.headers["etag"]})
    assert (gone.status_code, await summaries(client, feed["path"])) == (200, [])


async def test_open_completed_or_both(client: httpx2.AsyncClient) -> None:
    await make_task(client, "open")
    done = await make_task(client, "done")
    await client.post(f"{TASKS}/{done['id']}/complete", headers=ALICE)
    path = (await make_feed(client))["path"]
    assert await summaries(client, path) == ["open", "done"]
    assert await summaries(client, f"{path}?completed=false") == ["open"]
    assert await summaries(client, f"{path}?completed=true") == ["done"]
    assert await summaries(client, f"{path}?as=events") == ["open", "\u2713 done"]


async def test_reading_takes_two_statements_and_a_304_no_more(
    client: httpx2.AsyncClient, sent_statements: SentStatements
) -> None:
    for number in range(3):
        await make_task(client, f"t{number}", tags=["a", "b"])
    path = (await make_feed(client))["path"]
    with sent_statements() as sent:
        tag = (await client.get(path)).headers["etag"]
    assert sent == ["SELECT", "SELECT"]
    with sent_statements() as sent:
        await client.get(path, headers={"If-None-Match": tag})
    assert sent == ["SELECT", "SELECT"]


async def test_a_thousand_tasks_are_the_limit_and_the_nearest_are_kept(
    client: httpx2.AsyncClient, database: Database
) -> None:
    fill = """
        INSERT INTO tasks (owner_id, title, priority, due_at, position, version, created_at, updated_at, completed)
        SELECT 'alice', CASE WHEN n > 0 THEN 'next ' ELSE 'past ' END || abs(n), 'low',
               now() + n * interval '1 hour', '0', 1, now(), now(), false
        FROM generate_series(-600, 700) AS n WHERE n <> 0
    """
    async with database.session() as session:
        await (await session.connection()).execute(text(fill))
        await session.commit()
    shown = await summaries(client, (await make_feed(client))["path"])
    assert shown == [f"next {n}" for n in range(1, 701)] + [f"past {n}" for n in range(1, 301)]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"name": "x" * 101}, "name", "at most 100 characters"),
        ({"name": " "}, "name", "must not be blank"),
        ({"name": "a\x00"}, "name", "must not contain NUL"),
        ({"token": "mine"}, "token", "Extra inputs are not permitted"),
    ],
)
async def test_limits_are_named(client: httpx2.AsyncClient, body: dict[str, str], field: str, message: str) -> None:
    refused = await client.post(FEEDS, json=body, headers=ALICE)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == field
    assert message in refused.json()["errors"][0]["message"]


async def test_another_form_is_refused_before_any_token_is_looked_at(client: httpx2.AsyncClient) -> None:
    path = (await make_feed(client))["path"]
    for address in (path, f"{CALENDARS}/twcal_none.ics"):
        refused = await client.get(address, params={"as": "journal"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "query.as")
        assert "twcal_" not in refused.text


async def test_a_feed_shows_what_is_there_now_and_follows_a_due_date(client: httpx2.AsyncClient) -> None:
    task = await make_task(client, "Pay rent")
    path = (await make_feed(client))["path"]
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    await client.patch(f"{TASKS}/{task['id']}", json={"due_at": due.isoformat(), "title": "Pay"}, headers=ALICE)
    calendar = icalendar.Calendar.from_ical((await client.get(path)).content)
    (todo,) = calendar.walk("VTODO")
    assert (str(todo["summary"]), todo.decoded("due"), todo["sequence"]) == ("Pay", due, 1)


async def test_no_connection_is_held_while_the_calendar_is_made(client: httpx2.AsyncClient, database: Database) -> None:
    await make_task(client, "Pay rent")
    feed = await make_feed(client)
    content = await CalendarFeeds(database).open(feed["token"], "todos", completed=None)
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    assert b"SUMMARY:Pay rent\r\n" in await content.rendered()
