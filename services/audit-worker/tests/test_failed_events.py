"""What becomes of events that fail by their own fault, of those beside them, and of none when the database is away."""

import asyncio
import json
from collections.abc import Sequence
from typing import TypeAlias

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.service import Recorder
from chassis import consumer
from chassis.consumer import EventConsumer, Record
from chassis.erased_subjects import ErasedSubjects
from chassis.event_samples import MALFORMED_DELIVERIES, NEWER_DELIVERIES
from chassis.inbox import ReceivedEvent
from chassis.testing import (
    PATIENCE,
    bulk_envelope,
    deliver,
    deliver_bulk,
    deliver_until_taken,
    make_task_event,
    post_dead_letter,
    post_events,
    serving,
    settings_for,
)
from devstack.polling import at_some_pace
from task_events import TaskEvent

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
RECORD = Recorder(ErasedSubjects(b"test")).record
UNSTORABLE = "what this database refuses"
CURSED = "what this service cannot do"


@pytest.fixture
async def picky(database: Database) -> None:
    """Have the database refuse an event for its content."""
    await database.execute(f"ALTER TABLE audit_entries ADD CONSTRAINT picky CHECK (task ->> 'title' <> '{UNSTORABLE}')")


@pytest.fixture
async def defect(database: Database) -> None:
    """Have the effect of an event fail in a way nobody has foreseen."""
    await database.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a defect'; END $$;"
        "CREATE TRIGGER defect BEFORE INSERT ON audit_entries FOR EACH ROW "
        f"WHEN (NEW.task ->> 'title' = '{CURSED}') EXECUTE FUNCTION fail()"
    )


async def recorded(database: Database) -> list[tuple[int, int]]:
    rows = await database.fetch("SELECT task_id, task_version FROM audit_entries ORDER BY sequence")
    return [(row[0], row[1]) for row in rows]


async def letters(database: Database) -> list[bytes]:
    return [row[0] for row in await database.fetch("SELECT body FROM dead_letters ORDER BY id")]


class Keeper:
    """Keeps what a consumer is unable to process; or not, as a test wants it."""

    def __init__(self, error: Exception | None = None, seconds: float = 0) -> None:
        self.seen: list[tuple[bytes, str | None, Exception]] = []
        self._error, self._seconds = error, seconds

    async def __call__(self, record: Record, event_id: str | None, error: Exception) -> bool:
        self.seen.append((record.body, event_id, error))
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        return True


def record_of(event: TaskEvent) -> Record:
    return Record(event.to_json())


@pytest.mark.parametrize("kind", MALFORMED_DELIVERIES)
async def test_what_is_no_event_of_ours_is_stored_at_once_and_the_others_are_recorded(
    client: httpx2.AsyncClient, database: Database, kind: str
) -> None:
    body = MALFORMED_DELIVERIES[kind]
    await deliver_until_taken(client, make_task_event(1), body, make_task_event(2))
    assert await recorded(database) == [(1, 1), (2, 1)]
    assert await letters(database) == [body]


@pytest.mark.usefixtures("picky")
@pytest.mark.parametrize("place", [0, 3, 6])
async def test_what_the_database_refuses_for_its_content_is_stored_at_once_and_the_others_are_recorded(
    client: httpx2.AsyncClient, database: Database, place: int
) -> None:
    events = [make_task_event(task) for task in range(1, 8)]
    events[place] = make_task_event(place + 1, title=UNSTORABLE)
    assert await deliver_bulk(client, *events) == ["SUCCESS"] * 7
    assert await recorded(database) == [(task, 1) for task in range(1, 8) if task != place + 1]
    assert await letters(database) == [events[place].to_json()]


@pytest.mark.usefixtures("defect")
async def test_what_fails_otherwise_is_tried_three_times_before_it_is_stored(
    client: httpx2.AsyncClient, database: Database
) -> None:
    event = make_task_event(1, title=CURSED)
    assert await deliver(client, event, event) == ["RETRY"] * 2
    assert await letters(database) == []
    assert await deliver(client, event) == ["SUCCESS"]
    row = await database.fetchrow("SELECT * FROM dead_letters")
    assert row is not None
    assert (row["body"], row["event_id"], row["attempts"]) == (event.to_json(), event.id, 3)
    assert row["reason"] == "RaiseError: a defect"
    assert row["first_failed_at"] < row["last_failed_at"]
    assert await database.fetchval("SELECT count(*) FROM event_failures") == 0


@pytest.mark.usefixtures("defect")
async def test_the_attempts_are_counted_across_restarts(database_url: str, database: Database) -> None:
    event = make_task_event(1, title=CURSED)
    answers = []
    for _ in range(3):
        async with serving(create_app(settings_for(AuditWorkerSettings, database_url))) as client:
            answers += await deliver(client, event)
    assert answers == ["RETRY", "RETRY", "SUCCESS"]
    assert await letters(database) == [event.to_json()]


@pytest.mark.usefixtures("picky", "defect")
async def test_what_was_stored_is_stored_once_and_settled_at_once_when_it_is_delivered_again(
    client: httpx2.AsyncClient, database: Database
) -> None:
    batch = (b"{", make_task_event(1, title=UNSTORABLE), make_task_event(2, title=CURSED))
    for _ in range(3):
        await deliver_bulk(client, *batch)
    assert len(await letters(database)) == 3
    for _ in range(2):
        assert await deliver_bulk(client, *batch) == ["SUCCESS"] * 3
    answers = await asyncio.gather(*(deliver_bulk(client, *batch) for _ in range(4)))
    assert answers == [["SUCCESS"] * 3] * 4
    assert len(await letters(database)) == 3


@pytest.mark.usefixtures("picky")
async def test_both_doors_lead_to_one_letter(client: httpx2.AsyncClient, database: Database) -> None:
    bodies = [
        b"{",
        make_task_event(1, title=UNSTORABLE).to_json(),
        b"[",
        make_task_event(2, title=UNSTORABLE).to_json(),
    ]
    await deliver_bulk(client, *bodies[:2])
    for offset, body in enumerate(bodies):
        assert (await post_dead_letter(client, body, offset=offset)).json() == {"status": "SUCCESS"}
    assert await deliver_bulk(client, *bodies) == ["SUCCESS"] * 4
    rows = await database.fetch('SELECT topic, partition, "offset", body FROM dead_letters ORDER BY "offset"')
    assert [tuple(row) for row in rows] == [("tasks", 0, offset, body) for offset, body in enumerate(bodies)]


@pytest.mark.usefixtures("picky")
@pytest.mark.parametrize("metadata", [None, {}, {"__partition": "x", "__offset": "-2"}])
async def test_what_came_from_nobody_knows_where_is_stored_all_the_same(
    client: httpx2.AsyncClient, app: FastAPI, database: Database, metadata: dict[str, str] | None
) -> None:
    envelope = bulk_envelope([b"{"])
    assert isinstance(envelope["entries"], list)
    assert isinstance(envelope["entries"][0], dict)
    envelope["entries"][0]["metadata"] = None if metadata is None else {**metadata}
    for _ in range(2):
        response = await post_events(client, json.dumps(envelope).encode())
        assert response.json() == {"statuses": [{"entryId": "0", "status": "SUCCESS"}]}
    origins = await database.fetch('SELECT topic, partition, "offset" FROM dead_letters')
    assert [tuple(row) for row in origins] == [("tasks", -1, -1)]


@pytest.mark.usefixtures("picky", "defect")
async def test_what_cannot_be_stored_is_delivered_again_until_it_can(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await database.execute("ALTER TABLE dead_letters ADD CONSTRAINT full_up CHECK (false)")
    bad = (b"{", make_task_event(1, title=UNSTORABLE), make_task_event(2, title=CURSED))
    for _ in range(5):
        assert await deliver_bulk(client, *bad, make_task_event(3)) == ["RETRY", "RETRY", "RETRY", "SUCCESS"]
    await database.execute("ALTER TABLE dead_letters DROP CONSTRAINT full_up")
    assert await deliver_bulk(client, *bad[:2]) == ["SUCCESS"] * 2
    assert len(await letters(database)) == 2


@pytest.mark.usefixtures("picky")
async def test_what_cannot_be_stored_in_time_is_delivered_again(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = (make_task_event(1), make_task_event(2, title=UNSTORABLE), make_task_event(3), b"{")
    async with database.transaction():
        await database.execute("LOCK dead_letters IN ACCESS EXCLUSIVE MODE")
        with monkeypatch.context() as patch:
            patch.setattr(consumer, "_KEEP_TIMEOUT", 0.2)
            assert await deliver_bulk(client, *batch) == ["SUCCESS", "RETRY", "SUCCESS", "RETRY"]
    assert await deliver_bulk(client, *batch) == ["SUCCESS"] * 4
    assert len(await letters(database)) == 2


@pytest.mark.usefixtures("defect")
async def test_what_follows_a_failed_event_in_its_task_waits_until_that_is_settled(
    client: httpx2.AsyncClient, database: Database
) -> None:
    batch = [
        make_task_event(1, 1),
        make_task_event(1, 2, title=CURSED),
        make_task_event(2, 1),
        make_task_event(1, 3),
        make_task_event(1, 4),
    ]
    assert await deliver_bulk(client, *batch) == ["SUCCESS", "RETRY", "SUCCESS", "RETRY", "RETRY"]
    left, ids = [batch[1], batch[3], batch[4]], ["1", "3", "4"]
    assert await deliver_bulk(client, *left, entry_ids=ids) == ["RETRY"] * 3
    assert await recorded(database) == [(1, 1), (2, 1)]
    assert await deliver_bulk(client, *left, entry_ids=ids) == ["SUCCESS"] * 3
    assert await recorded(database) == [(1, 1), (2, 1), (1, 3), (1, 4)]
    assert await letters(database) == [batch[1].to_json()]


@pytest.mark.usefixtures("picky")
async def test_nothing_goes_before_an_event_of_its_task_that_could_not_be_stored(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await database.execute("ALTER TABLE dead_letters ADD CONSTRAINT full_up CHECK (false)")
    batch = [make_task_event(1, 1, title=UNSTORABLE), make_task_event(1, 2), make_task_event(2, 1)]
    assert await deliver_bulk(client, *batch) == ["RETRY", "RETRY", "SUCCESS"]


@pytest.mark.usefixtures("picky", "defect")
async def test_each_answer_stands_under_the_id_of_its_entry(client: httpx2.AsyncClient) -> None:
    """After a retry daprd delivers what is left under the ids of before: an id is no place."""
    batch: list[TaskEvent | bytes] = [
        make_task_event(1),
        make_task_event(2, title=CURSED),
        b"{",
        make_task_event(3, title=CURSED),
        make_task_event(4, title=UNSTORABLE),
        make_task_event(5),
    ]
    wanted = ["SUCCESS", "RETRY", "SUCCESS", "RETRY", "SUCCESS", "SUCCESS"]
    assert await deliver_bulk(client, *batch, entry_ids=["2", "0", "9", "41", "5", "6"]) == wanted


@pytest.mark.usefixtures("picky", "defect")
async def test_whatever_is_delivered_is_answered_by_success_or_retry_and_never_by_drop(
    client: httpx2.AsyncClient,
) -> None:
    own = [make_task_event(task, title=title) for task, title in enumerate(("fine", UNSTORABLE, CURSED), 1)]
    for _ in range(4):
        answers = await deliver_bulk(client, *MALFORMED_DELIVERIES.values(), *NEWER_DELIVERIES.values(), *own)
        assert set(answers[:-1]) == {"SUCCESS"}
        assert answers[-1] in {"SUCCESS", "RETRY"}


async def test_no_outage_however_long_is_the_fault_of_an_event(app: FastAPI, client: httpx2.AsyncClient) -> None:
    async def frozen(session: AsyncSession, received: Sequence[ReceivedEvent]) -> None:
        raise TimeoutError

    unreachable = create_app(settings_for(AuditWorkerSettings)).state.database
    keeper = Keeper()
    for database, effect in ((app.state.database, frozen), (unreachable, RECORD)):
        taker = EventConsumer(database, effect, keeper)
        assert [await taker.consume([record_of(make_task_event())]) for _ in range(20)] == [["RETRY"]] * 20
    assert keeper.seen == []


async def test_a_schema_that_does_not_fit_is_the_fault_of_no_event(
    client: httpx2.AsyncClient, database: Database
) -> None:
    batch = [make_task_event(task) for task in (1, 2, 3)]
    await database.execute("ALTER TABLE audit_entries RENAME TO not_yet")
    for _ in range(5):
        assert await deliver_bulk(client, *batch) == ["RETRY"] * 3
    assert await database.fetchval("SELECT count(*) FROM event_failures") == 0
    await database.execute("ALTER TABLE not_yet RENAME TO audit_entries")
    assert await deliver_bulk(client, *batch) == ["SUCCESS"] * 3
    assert await letters(database) == []


@pytest.mark.usefixtures("picky")
async def test_whoever_keeps_failed_events_is_told_which_and_why(app: FastAPI, client: httpx2.AsyncClient) -> None:
    keeper = Keeper()
    taker = EventConsumer(app.state.database, RECORD, keeper)
    refused = make_task_event(2, title=UNSTORABLE)
    records = [record_of(make_task_event(1)), Record(b"{"), record_of(refused)]
    assert await taker.consume(records) == ["SUCCESS"] * 3
    told = {(body, event_id): str(error) for body, event_id, error in keeper.seen}
    assert told.keys() == {(b"{", None), (refused.to_json(), refused.id)}
    assert "not a task event" in told[b"{", None]
    assert "picky" in told[refused.to_json(), refused.id]


@pytest.mark.parametrize(("error", "seconds"), [(RuntimeError("no room"), 0), (TimeoutError(), 0), (None, 600)])
async def test_what_could_not_be_kept_is_delivered_again_alone(
    app: FastAPI,
    client: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    seconds: float,
) -> None:
    monkeypatch.setattr(consumer, "_KEEP_TIMEOUT", 0.2 if seconds else PATIENCE)
    taker = EventConsumer(app.state.database, RECORD, keeper := Keeper(error, seconds))
    answers = await taker.consume([record_of(make_task_event(1)), Record(b"{")])
    assert answers == ["SUCCESS", "RETRY"]
    assert len(keeper.seen) == 1


async def test_however_many_cannot_be_kept_the_answer_is_in_time(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "DELIVERY_TIMEOUT", 0.2)
    keeper = Keeper(seconds=600)
    async with asyncio.timeout(PATIENCE / 2):  # less than keeping one of them may take here
        answers = await EventConsumer(app.state.database, RECORD, keeper).consume([Record(b"{")] * 20)
    assert answers == ["RETRY"] * 20
    assert len(keeper.seen) <= 1, "the others are not even tried: there is no time left"


async def test_an_event_that_hangs_is_delivered_again_with_its_task_alone(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def effect(session: AsyncSession, received: Sequence[ReceivedEvent]) -> None:
        if any(item.event.subject == "3" and item.event.data.task.version == 1 for item in received):
            await asyncio.sleep(600)

    async def hangs(seconds: float) -> bool:
        for name in ("_WHOLE_BATCH_TIMEOUT", "_PART_TIMEOUT"):
            monkeypatch.setattr(consumer, name, seconds)
        events = [make_task_event(task) for task in range(1, 7)] + [make_task_event(3, 2)]
        consume = EventConsumer(app.state.database, effect, keeper := Keeper()).consume
        answers = await consume([record_of(event) for event in events])
        assert (answers[2], answers[6], keeper.seen) == ("RETRY", "RETRY", [])
        return answers == ["SUCCESS", "SUCCESS", "RETRY", "SUCCESS", "SUCCESS", "SUCCESS", "RETRY"]

    # What does not hang must be through in the time that one that hangs is given.
    assert await at_some_pace(hangs, 0.5)
