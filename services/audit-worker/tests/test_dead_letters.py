"""Dead letters of a consumer: stored once with their reason, redriven in order, discarded with a note."""

import asyncio
import base64
from typing import Any, TypeAlias

import asyncpg
import httpx2
import pytest
from prometheus_client import REGISTRY

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from chassis import consumer
from chassis.dead_letters import delivery
from chassis.event_samples import MALFORMED_DELIVERIES, SAMPLE, with_member
from chassis.testing import PATIENCE, bearer, deliver, make_task_event, post_dead_letter, serving, settings_for
from devstack.polling import within
from task_events import TaskEvent

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Json = dict[str, Any]
URL = "/api/v1/dead-letters"
ADMIN = bearer("olga", "admin")


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("taskwire_dead_letters_total", {"outcome": outcome}) or 0.0


async def stored(client: httpx2.AsyncClient, *bodies: TaskEvent | bytes, first_offset: int = 0) -> list[Json]:
    """Have letters delivered and give them as the API lists them, in the order in which they came."""
    for offset, body in enumerate(bodies, first_offset):
        response = await post_dead_letter(client, body, offset=offset)
        assert response.json() == {"status": "SUCCESS"}
    return await letters(client)


async def letters(client: httpx2.AsyncClient, query: str = "limit=200") -> list[Json]:
    response = await client.get(f"{URL}?{query}", headers=ADMIN)
    assert response.status_code == 200, response.text
    items: list[Json] = response.json()["items"]
    return items[::-1]


async def post(client: httpx2.AsyncClient, path: str, body: Json | None = None) -> httpx2.Response:
    return await client.post(f"{URL}{path}", json=body, headers=ADMIN)


async def entries(database: Database) -> list[tuple[int, int]]:
    rows = await database.fetch("SELECT task_id, task_version FROM audit_entries ORDER BY sequence")
    return [(row["task_id"], row["task_version"]) for row in rows]


@pytest.fixture
async def defect(database: Database) -> Database:
    """The consumer fails at what is called “cursed”, and not for its content: it tries again."""
    await database.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a defect'; END $$;"
        "CREATE TRIGGER cursed BEFORE INSERT ON audit_entries FOR EACH ROW "
        "WHEN (NEW.task->>'title' = 'cursed') EXECUTE FUNCTION fail()"
    )
    return database


async def repair(database: Database) -> None:
    await database.execute("DROP TRIGGER cursed ON audit_entries")


@pytest.mark.parametrize("kind", MALFORMED_DELIVERIES)
async def test_a_poison_message_is_kept_whole_with_what_is_wrong_with_it(client: httpx2.AsyncClient, kind: str) -> None:
    body = MALFORMED_DELIVERIES[kind]
    before = counted("stored")
    [letter] = await stored(client, body)
    assert (letter["status"], letter["topic"], letter["partition"], letter["offset"]) == ("open", "tasks", 0, 0)
    assert letter["reason"].startswith(("not a task event: ", "contract version 2.0 is not 1.x", "subject 4 is not"))
    assert (letter["attempts"], letter["size_bytes"]) == (1, len(body))
    shown = (await client.get(f"{URL}/{letter['id']}", headers=ADMIN)).json()
    assert {name: shown[name] for name in letter} == letter
    as_bytes = base64.b64decode(shown["body_base64"]) if shown["body_base64"] is not None else None
    assert as_bytes == body if as_bytes is not None else shown["event"] == httpx2.Response(200, content=body).json()
    assert counted("stored") == before + 1


async def test_a_letter_that_is_delivered_again_is_stored_once(client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(post_dead_letter(client, b"poison", offset=7) for _ in range(6)))
    assert [answer.json() for answer in answers] == [{"status": "SUCCESS"}] * 6
    assert len(await letters(client)) == 1


async def test_a_letter_that_was_closed_is_not_opened_by_its_redelivery(client: httpx2.AsyncClient) -> None:
    [letter] = await stored(client, b"poison")
    await post(client, f"/{letter['id']}/discard", {"note": "known"})
    [again] = await stored(client, b"poison")
    assert (again["id"], again["status"]) == (letter["id"], "discarded")


async def test_the_same_bytes_at_another_offset_are_another_letter(client: httpx2.AsyncClient) -> None:
    assert [letter["offset"] for letter in await stored(client, b"poison", b"poison")] == [0, 1]


async def test_other_bytes_at_a_known_offset_are_never_taken_for_the_old_ones(client: httpx2.AsyncClient) -> None:
    """Offsets begin anew in a topic that was made anew."""
    await stored(client, b"poison")
    assert len(await stored(client, b"other")) == 2


async def test_whatever_is_delivered_is_stored_even_without_its_origin(client: httpx2.AsyncClient) -> None:
    response = await post_dead_letter(client, b"\x00\xff", __offset="many", __partition="-", __topic="")
    assert response.json() == {"status": "SUCCESS"}
    [letter] = await letters(client)
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("audit-worker.dead-letters", -1, -1)


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_who_is_not_the_sidecar_brings_no_letters(client: httpx2.AsyncClient, token: str) -> None:
    assert (await post_dead_letter(client, b"poison", token=token)).status_code == 403
    assert await letters(client) == []


async def test_a_letter_waits_for_a_database_that_is_down_and_is_never_dropped() -> None:
    async with serving(create_app(settings_for(AuditWorkerSettings))) as client:
        assert (await post_dead_letter(client, b"poison")).json() == {"status": "RETRY"}
        assert (await client.get(URL, headers=ADMIN)).status_code == 503


async def test_a_letter_that_cannot_be_stored_is_retried_and_never_dropped(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await database.execute("ALTER TABLE dead_letters ADD CONSTRAINT none CHECK (false)")
    assert (await post_dead_letter(client, b"poison")).json() == {"status": "RETRY"}


async def test_the_reason_and_the_attempts_of_a_failing_handler_are_in_the_letter(
    client: httpx2.AsyncClient, defect: Database
) -> None:
    event = make_task_event(title="cursed")
    assert await deliver(client, event, event) == ["RETRY"] * 2
    assert await letters(client) == []
    [letter] = await stored(client, event)
    assert letter["reason"] == "RaiseError: a defect"
    assert (letter["attempts"], letter["event_id"], letter["event_type"], letter["subject"]) == (
        2,
        event.id,
        "task.created",
        "1",
    )
    assert letter["first_failed_at"] < letter["last_failed_at"] < letter["stored_at"]
    assert await defect.fetchval("SELECT count(*) FROM event_failures") == 0


async def test_a_failure_is_forgotten_when_the_event_is_processed_after_all(
    client: httpx2.AsyncClient, defect: Database
) -> None:
    event, other = make_task_event(1, title="cursed"), make_task_event(2, title="cursed")
    await deliver(client, event)
    await repair(defect)
    assert await deliver(client, event) == ["SUCCESS"]
    await defect.execute(
        "CREATE TRIGGER cursed BEFORE INSERT ON audit_entries FOR EACH ROW WHEN (NEW.task_id = 2) "
        "EXECUTE FUNCTION fail()"
    )
    await deliver(client, other)
    assert [row["event_id"] for row in await defect.fetch("SELECT event_id FROM event_failures")] == [other.id]


async def test_a_failure_nobody_came_back_for_is_forgotten_after_a_week(
    client: httpx2.AsyncClient, defect: Database
) -> None:
    await defect.execute(
        "INSERT INTO event_failures SELECT day::text, 'x', 1, now(), now() - day * interval '1 day' "
        "FROM generate_series(6, 9) AS day"
    )
    await deliver(client, make_task_event(title="cursed"))
    assert await defect.fetchval("SELECT count(*) FROM event_failures WHERE length(event_id) = 1") == 1


async def test_an_outage_leaves_no_note(client: httpx2.AsyncClient, database: Database) -> None:
    await database.execute(
        "CREATE FUNCTION go_down() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'shutting down' USING ERRCODE = 'admin_shutdown'; END $$"
    )
    await database.execute("CREATE TRIGGER down BEFORE INSERT ON audit_entries EXECUTE FUNCTION go_down()")
    assert await deliver(client, make_task_event()) == ["RETRY"]
    assert await database.fetchval("SELECT count(*) FROM event_failures") == 0


async def test_a_database_that_answers_too_late_is_an_outage_too(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "DELIVERY_TIMEOUT", 0.1)
    async with database.transaction():
        await database.execute("LOCK chain_head IN ACCESS EXCLUSIVE MODE")
        assert await deliver(client, make_task_event()) == ["RETRY"]
    assert await database.fetchval("SELECT count(*) FROM event_failures") == 0


async def test_a_failure_that_cannot_be_noted_is_tried_again_for_ever(
    client: httpx2.AsyncClient, defect: Database
) -> None:
    await defect.execute("ALTER TABLE event_failures ADD CONSTRAINT none CHECK (false)")
    assert await deliver(client, *[make_task_event(title="cursed")] * 5) == ["RETRY"] * 5
    [letter] = await stored(client, make_task_event(title="cursed"))
    assert letter["reason"].startswith("unknown: ")


async def test_a_redrive_after_the_repair_makes_exactly_one_entry_and_closes_the_letter(
    client: httpx2.AsyncClient, defect: Database
) -> None:
    event = make_task_event(title="cursed")
    await deliver(client, event)
    [letter] = await stored(client, event)
    await repair(defect)
    before = counted("redriven")
    response = await post(client, f"/{letter['id']}/redrive")
    assert response.status_code == 200, response.text
    redriven = response.json()
    assert (redriven["status"], redriven["verdict"], redriven["closed_by"]) == ("redriven", "fresh", "olga")
    assert redriven["attempts"] == 2
    assert await entries(defect) == [(1, 1)]
    assert counted("redriven") == before + 1
    again = await post(client, f"/{letter['id']}/redrive")
    assert (again.status_code, again.json()["code"]) == (409, "dead_letter_closed")
    assert await entries(defect) == [(1, 1)]


async def test_a_redrive_that_fails_again_keeps_the_letter_with_the_new_reason(
    client: httpx2.AsyncClient, defect: Database
) -> None:
    event = make_task_event(title="cursed")
    [letter] = await stored(client, event)
    response = await post(client, f"/{letter['id']}/redrive")
    assert (response.status_code, response.json()["code"]) == (409, "redrive_failed")
    assert "RaiseError: a defect" in response.json()["detail"]
    [kept] = await letters(client)
    assert (kept["status"], kept["attempts"], kept["first_failed_at"]) == ("open", 2, letter["first_failed_at"])
    assert kept["reason"] == "RaiseError: a defect"
    assert kept["last_failed_at"] > letter["last_failed_at"]
    assert await defect.fetchval("SELECT count(*) FROM inbox_events") == 0


async def test_a_redrive_of_what_is_no_event_fails_again(client: httpx2.AsyncClient) -> None:
    [letter] = await stored(client, b"poison")
    assert (await post(client, f"/{letter['id']}/redrive")).json()["code"] == "redrive_failed"
    [kept] = await letters(client)
    assert (kept["attempts"], kept["reason"]) == (2, letter["reason"])


async def test_redrives_at_the_same_time_apply_the_event_once(client: httpx2.AsyncClient, database: Database) -> None:
    [letter] = await stored(client, make_task_event())
    answers = await asyncio.gather(*(post(client, f"/{letter['id']}/redrive") for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    assert await entries(database) == [(1, 1)]
    assert await database.fetchval("SELECT count(*) FROM inbox_events") == 1


async def test_a_redrive_beside_a_redelivery_applies_the_event_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    event = make_task_event()
    [letter] = await stored(client, event)
    redriven, delivered = await asyncio.gather(post(client, f"/{letter['id']}/redrive"), deliver(client, event))
    assert (redriven.status_code, delivered) == (200, ["SUCCESS"])
    assert await entries(database) == [(1, 1)]


async def test_a_redrive_of_what_was_processed_meanwhile_changes_nothing(
    client: httpx2.AsyncClient, database: Database
) -> None:
    event = make_task_event()
    [letter] = await stored(client, event)
    await deliver(client, event)
    redriven = (await post(client, f"/{letter['id']}/redrive")).json()
    assert (redriven["status"], redriven["verdict"]) == ("redriven", "duplicate")
    assert await entries(database) == [(1, 1)]


async def test_a_late_redrive_does_not_take_the_task_back(client: httpx2.AsyncClient, database: Database) -> None:
    [letter] = await stored(client, make_task_event(1, 1))
    await deliver(client, make_task_event(1, 2))
    assert (await post(client, f"/{letter['id']}/redrive")).json()["verdict"] == "stale"
    assert await entries(database) == [(1, 2), (1, 1)]
    assert await database.fetchval("SELECT version FROM inbox_subjects WHERE subject = '1'") == 2


async def test_a_redrive_during_an_outage_changes_nothing(
    client: httpx2.AsyncClient, database: Database, database_url: str
) -> None:
    [letter] = await stored(client, make_task_event())
    impatient = create_app(settings_for(AuditWorkerSettings, database_url, database_lock_timeout=0.1))
    async with serving(impatient) as other, database.transaction():
        await database.execute("LOCK chain_head IN ACCESS EXCLUSIVE MODE")
        response = await post(other, f"/{letter['id']}/redrive")
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert await letters(client) == [letter]
    assert (await post(client, f"/{letter['id']}/redrive")).status_code == 200


async def test_all_open_letters_are_redriven_in_the_order_in_which_they_came(
    client: httpx2.AsyncClient, database: Database
) -> None:
    events = [make_task_event(task, version) for version in (1, 2) for task in (1, 2, 3)]
    await stored(client, *events[:3], b"poison", *events[3:])
    outcomes: list[Json] = []
    cursor = None
    for _ in range(10):
        page = (await post(client, "/redrive", {"limit": 2, "cursor": cursor})).json()
        outcomes += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [item["outcome"] for item in outcomes] == ["redriven"] * 3 + ["failed"] + ["redriven"] * 3
    assert outcomes[3]["reason"].startswith("not a task event")
    assert await entries(database) == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
    assert [letter["status"] for letter in await letters(client, "status=open")] == ["open"]


async def test_named_letters_are_redriven_and_each_says_what_became_of_it(
    client: httpx2.AsyncClient, database: Database
) -> None:
    good, poison, closed, other = [
        letter["id"] for letter in await stored(client, make_task_event(1), b"x", b"y", make_task_event(2))
    ]
    await post(client, f"/{closed}/discard", {"note": "known"})
    page = (await post(client, "/redrive", {"ids": [9999, closed, poison, good, good]})).json()
    assert [(item["id"], item["outcome"]) for item in page["items"]] == [
        (good, "redriven"),
        (poison, "failed"),
        (closed, "closed"),
        (9999, "not_found"),
    ]
    assert page["next_cursor"] is None
    assert await entries(database) == [(1, 1)]
    assert {letter["id"] for letter in await letters(client, "status=open")} == {poison, other}


async def test_a_discarded_letter_is_kept_with_its_note_and_cannot_be_redriven(
    client: httpx2.AsyncClient, database: Database
) -> None:
    [letter] = await stored(client, make_task_event())
    before = counted("discarded")
    discarded = (await post(client, f"/{letter['id']}/discard", {"note": "  load test  "})).json()
    assert (discarded["status"], discarded["note"], discarded["closed_by"]) == ("discarded", "load test", "olga")
    assert discarded["attempts"] == 1
    assert counted("discarded") == before + 1
    for action, body in (("redrive", None), ("discard", {"note": "again"})):
        response = await post(client, f"/{letter['id']}/{action}", body)
        assert (response.status_code, response.json()["code"]) == (409, "dead_letter_closed")
    assert await entries(database) == []
    assert (await letters(client))[0] == discarded


@pytest.mark.parametrize("note", ["", "   ", "x" * 1001, None, 7, "a\x00b"])
async def test_a_discard_says_why(client: httpx2.AsyncClient, note: object) -> None:
    [letter] = await stored(client, b"poison")
    assert (await post(client, f"/{letter['id']}/discard", {"note": note})).status_code == 422
    assert [letter["status"] for letter in await letters(client)] == ["open"]


async def test_letters_are_listed_newest_first_by_pages_without_their_content(client: httpx2.AsyncClient) -> None:
    await stored(client, *(f"poison {number}".encode() for number in range(7)))
    await post(client, "/1/discard", {"note": "known"})
    seen: list[int] = []
    query = "limit=3&status=open&total=true"
    for _ in range(5):
        page = (await client.get(f"{URL}?{query}", headers=ADMIN)).json()
        assert page["total"] == 6
        assert all("event" not in item and "body_base64" not in item for item in page["items"])
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"limit=3&status=open&total=true&cursor={page['next_cursor']}"
    assert seen == [7, 6, 5, 4, 3, 2]
    assert [letter["id"] for letter in await letters(client, "status=discarded")] == [1]


@pytest.mark.parametrize("body", [b'{"a": NaN}', b"1e999", b'"\\ud800"', b"[" * 10_000 + b"]" * 10_000])
async def test_what_json_cannot_carry_is_shown_as_bytes(client: httpx2.AsyncClient, body: bytes) -> None:
    [letter] = await stored(client, body)
    response = await client.get(f"{URL}/{letter['id']}", headers=ADMIN)
    assert response.status_code == 200
    assert base64.b64decode(response.json()["body_base64"]) == body


async def test_an_id_that_postgresql_does_not_take_is_stored_all_the_same(client: httpx2.AsyncClient) -> None:
    event = with_member(SAMPLE, "id", "a\x00b" + "c" * 90)
    assert await deliver(client, event) == ["SUCCESS"]
    [letter] = await letters(client)
    assert letter["event_id"].startswith("a\ufffdb")
    assert letter["reason"] == "not a task event: it holds NUL, which no text here can"


async def test_a_megabyte_of_poison_is_stored_and_shown(client: httpx2.AsyncClient) -> None:
    body = b"\xff" * 2_000_000
    [letter] = await stored(client, body)
    shown = (await client.get(f"{URL}/{letter['id']}", headers=ADMIN)).json()
    assert base64.b64decode(shown["body_base64"]) == body


PATHS = [("GET", ""), ("GET", "/1"), ("POST", "/redrive"), ("POST", "/1/redrive"), ("POST", "/1/discard")]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_dead_letters_are_for_admins_alone(client: httpx2.AsyncClient, method: str, path: str) -> None:
    await stored(client, make_task_event())
    for headers, status in (({}, 401), (bearer("alice"), 403), (bearer("olga", "auditor"), 403)):
        body = {"note": "x"} if path.endswith("discard") else {}
        response = await client.request(method, f"{URL}{path}", headers=headers, json=body)
        assert response.status_code == status
    assert [letter["status"] for letter in await letters(client)] == ["open"]


@pytest.mark.parametrize(("method", "path"), [pair for pair in PATHS if "/1" in pair[1]])
async def test_a_letter_that_does_not_exist_is_not_found(client: httpx2.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, f"{URL}{path}", headers=ADMIN, json={"note": "x"})
    assert (response.status_code, response.json()["code"]) == (404, "dead_letter_not_found")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "status=lost", "cursor=nonsense"])
async def test_a_list_query_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"{URL}?{query}", headers=ADMIN)).status_code == 422


@pytest.mark.parametrize(
    "body", [{"ids": []}, {"ids": [0]}, {"ids": list(range(1, 102))}, {"limit": 0}, {"cursor": "x"}, {"all": True}]
)
async def test_a_redrive_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, body: Json) -> None:
    await stored(client, make_task_event())
    assert (await post(client, "/redrive", body)).status_code == 422
    assert [letter["status"] for letter in await letters(client)] == ["open"]


async def test_the_gauge_shows_the_open_letters(
    client: httpx2.AsyncClient, app: object, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(delivery, "_COUNT_EVERY", 0.02)
    await stored(client, b"x", b"y", b"z")
    await post(client, "/1/discard", {"note": "known"})
    async with serving(create_app(settings_for(AuditWorkerSettings, database_url))):

        async def two_are_open() -> bool:
            return REGISTRY.get_sample_value("taskwire_dead_letters_open") == 2

        assert await within(PATIENCE, two_are_open, 0.01)


async def test_the_open_letters_are_read_through_their_index(client: httpx2.AsyncClient, database: Database) -> None:
    await stored(client, b"x")
    await database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    for query in ("SELECT count(*)", "SELECT id"):
        order = "" if "count" in query else "ORDER BY id DESC LIMIT 51"
        lines = await database.fetch(f"EXPLAIN {query} FROM dead_letters WHERE status = 'open' {order}")
        assert "dead_letters_open_idx" in "\n".join(line[0] for line in lines)
