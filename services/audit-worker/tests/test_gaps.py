"""Missing versions: noticed, stored, reported, and taken back when they arrive."""

import asyncio
import itertools
import random
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from chassis.gaps import observe_gaps
from chassis.testing import PATIENCE, bearer, deliver, deliver_bulk, deliver_until_taken, make_task_event
from devstack.polling import within

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Json: TypeAlias = dict[str, object]
URL = "/api/v1/audit/gaps"


async def read(client: httpx2.AsyncClient, query: str = "", role: str = "auditor") -> list[Json]:
    response = await client.get(f"{URL}?{query}", headers=bearer("olga", role))
    assert response.status_code == 200, response.text
    items: list[Json] = response.json()["items"]
    return items


async def gaps(client: httpx2.AsyncClient, query: str = "open=true") -> list[tuple[int, int, int]]:
    names = ("task_id", "from_version", "to_version")
    found = [tuple(int(str(gap[name])) for name in names) for gap in await read(client, query)]
    return sorted((task, first, last) for task, first, last in found)


def sample(metric: str) -> float:
    return REGISTRY.get_sample_value(metric) or 0.0


async def test_skipped_versions_are_a_gap_that_says_which_and_since_when(client: httpx2.AsyncClient) -> None:
    before = datetime.now(UTC)
    with capture_logs() as logs:
        await deliver(client, make_task_event(7, 1), make_task_event(7, 4))
    [gap] = await read(client)
    assert before <= datetime.fromisoformat(str(gap.pop("detected_at"))) <= datetime.now(UTC)
    assert gap == {"id": gap["id"], "task_id": 7, "from_version": 2, "to_version": 3, "closed_at": None}
    [line] = [line for line in logs if line["event"] == "versions are missing"]
    assert (line["subject"], line["from_version"], line["to_version"], line["log_level"]) == ("7", 2, 3, "warning")


async def test_without_holes_there_is_no_gap(client: httpx2.AsyncClient) -> None:
    await deliver(client, *(make_task_event(7, version) for version in (1, 2, 3)), make_task_event(8, 1))
    assert await read(client) == []


async def test_versions_start_at_one_so_the_first_event_seen_may_open_a_gap(client: httpx2.AsyncClient) -> None:
    await deliver(client, make_task_event(7, 5))
    assert await gaps(client) == [(7, 1, 4)]


async def test_several_holes_of_one_task_are_several_gaps(client: httpx2.AsyncClient) -> None:
    await deliver(client, *(make_task_event(7, version) for version in (2, 3, 6, 8)), make_task_event(8, 3))
    assert await gaps(client) == [(7, 1, 1), (7, 4, 5), (7, 7, 7), (8, 1, 2)]


async def test_late_events_narrow_a_gap_and_close_it_and_its_history_stays(client: httpx2.AsyncClient) -> None:
    await deliver(client, make_task_event(7, 1), make_task_event(7, 6))
    await deliver(client, make_task_event(7, 4))
    assert await gaps(client) == [(7, 2, 3), (7, 5, 5)]
    await deliver(client, make_task_event(7, 2), make_task_event(7, 5), make_task_event(7, 3))
    assert await gaps(client) == []
    history = await read(client, "open=false")
    assert await gaps(client, "open=false") == [(7, 2, 2), (7, 3, 3), (7, 4, 4), (7, 5, 5)]
    assert len({gap["detected_at"] for gap in history}) == 1
    assert all(str(gap["detected_at"]) < str(gap["closed_at"]) for gap in history)


async def test_duplicates_neither_open_nor_close_anything(client: httpx2.AsyncClient) -> None:
    first, last = make_task_event(7, 1), make_task_event(7, 4)
    await deliver(client, first, last, last, first)
    await deliver_bulk(client, last, first, last)
    assert await gaps(client) == [(7, 2, 3)]
    assert len(await read(client)) == 1


async def test_a_second_event_for_a_known_version_closes_nothing(client: httpx2.AsyncClient) -> None:
    await deliver(client, make_task_event(7, 1), make_task_event(7, 4), make_task_event(7, 4, title="Buy bread"))
    assert await gaps(client) == [(7, 2, 3)]


async def test_in_one_batch_a_gap_may_open_narrow_and_close(client: httpx2.AsyncClient) -> None:
    await deliver_bulk(client, *(make_task_event(7, version) for version in (1, 5, 3, 2, 7)))
    assert await gaps(client) == [(7, 4, 4), (7, 6, 6)]
    assert await gaps(client, "open=false") == [(7, 2, 2), (7, 3, 3)]


async def test_concurrent_deliveries_in_any_order_leave_open_what_never_came(client: httpx2.AsyncClient) -> None:
    never = {(1, 3), (2, 1), (3, 7), (3, 8)}
    sent = [pair for pair in itertools.product((1, 2, 3), range(1, 11)) if pair not in never]
    random.Random(11).shuffle(sent)  # noqa: S311
    events = [make_task_event(task, version) for task, version in sent]
    batches = [events[start : start + 4] for start in range(0, len(events), 4)]
    deliveries = [*batches, *([event] for event in events)]
    await asyncio.gather(*(deliver_until_taken(client, *delivery) for delivery in deliveries))
    assert await gaps(client) == [(1, 3, 3), (2, 1, 1), (3, 7, 8)]


async def test_the_gauges_tell_how_many_gaps_are_open_and_how_old_the_oldest_is(
    client: httpx2.AsyncClient, app: FastAPI, database: Database
) -> None:
    missing, recovered = "taskwire_inbox_missing_versions_total", "taskwire_inbox_recovered_versions_total"
    before = sample(missing), sample(recovered)
    await deliver(client, make_task_event(7, 3), make_task_event(8, 2), make_task_event(8, 1))
    await database.execute("UPDATE inbox_gaps SET detected_at = detected_at - interval '1 hour' WHERE subject = '7'")
    await observe_gaps(app.state.database)
    assert sample("taskwire_inbox_open_gaps") == 1
    assert 3600 <= sample("taskwire_inbox_oldest_gap_age_seconds") < 3700
    assert (sample(missing) - before[0], sample(recovered) - before[1]) == (3, 1)
    await deliver(client, make_task_event(7, 1), make_task_event(7, 2))
    await observe_gaps(app.state.database)
    assert sample("taskwire_inbox_open_gaps") == 0
    assert sample("taskwire_inbox_oldest_gap_age_seconds") == 0


async def test_a_running_service_keeps_the_gauges_up_to_date(client: httpx2.AsyncClient, database: Database) -> None:
    await database.execute(
        "INSERT INTO inbox_gaps (subject, from_version, to_version, detected_at) "
        "SELECT n::text, 1, 1, now() FROM generate_series(1, 41) AS n"
    )

    async def observed() -> bool:
        return sample("taskwire_inbox_open_gaps") == 41

    assert await within(PATIENCE, observed, 0.05)


@pytest.mark.parametrize("role", ["auditor", "admin"])
async def test_auditors_and_admins_see_the_gaps(client: httpx2.AsyncClient, role: str) -> None:
    await deliver(client, make_task_event(7, 2))
    assert len(await read(client, role=role)) == 1


@pytest.mark.parametrize("roles", [(), ("Admin", "auditors", "member")])
async def test_nobody_else_sees_the_gaps_not_even_the_owner(client: httpx2.AsyncClient, roles: tuple[str, ...]) -> None:
    await deliver(client, make_task_event(7, 2))
    response = await client.get(URL, headers=bearer("alice", *roles))
    assert (response.status_code, response.json()["code"]) == (403, "gaps_forbidden")
    assert (await client.get(URL)).status_code == 401


async def test_gaps_come_page_by_page_and_filtered(client: httpx2.AsyncClient) -> None:
    await deliver(client, *(make_task_event(task, 2) for task in range(1, 8)), make_task_event(3, 1))
    seen: list[object] = []
    cursor = ""
    while True:
        query = f"{URL}?open=true&limit=2&total=true{cursor}"
        page = (await client.get(query, headers=bearer("olga", "auditor"))).json()
        seen += [gap["task_id"] for gap in page["items"]]
        assert page["total"] == 6
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [1, 2, 4, 5, 6, 7]
    assert await gaps(client, "open=false") == [(3, 1, 1)]
    assert len(await read(client)) == 7
    assert await gaps(client, "task_id=5") == [(5, 1, 1)]
    assert await read(client, "task_id=99") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "task_id=0", "cursor=nonsense", "open=perhaps"])
async def test_a_query_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"{URL}?{query}", headers=bearer("olga", "auditor"))
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == f"query.{query.split('=', maxsplit=1)[0]}"


async def test_the_list_of_open_gaps_is_read_through_its_index(database: Database) -> None:
    await database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    plan = await database.fetch(
        "EXPLAIN SELECT * FROM inbox_gaps WHERE closed_at IS NULL AND id > 5 ORDER BY id LIMIT 9"
    )
    assert "inbox_gaps_open_idx" in "\n".join(row[0] for row in plan)
