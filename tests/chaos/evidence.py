"""What is there afterwards: read from the databases and the topic, past every service."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg
from tests.chaos.schedule import CONSUMERS
from tests.chaos.topic import POISONED_TASKS, Place, PublishedEvent, Topic

from audit_worker.trail.chain import Head
from audit_worker.trail.models import NewEntry


@dataclass(frozen=True)
class DeadLetter:
    """A letter of one consumer."""

    consumer: str
    place: Place
    subject: str | None
    reason: str


@dataclass(frozen=True)
class Evidence:
    """Everything the invariants speak of.

    Attributes:
        versions: Committed version of each task, deleted ones included.
        outbox: Events that still wait.
        events: What is in the topic, in the order of each partition.
        poison: Where the records are that no consumer can process.
        entries: The audit trail, in its order.
        head: Where the trail says that it ends.
        notified: Event id of each notification.
        letters: Dead letters of both consumers.
        gaps: Open gaps per consumer.
    """

    versions: Mapping[int, int]
    outbox: int
    events: list[PublishedEvent]
    poison: list[Place]
    entries: list[NewEntry]
    head: Head
    notified: list[str]
    letters: list[DeadLetter]
    gaps: Mapping[str, int]


@dataclass(frozen=True)
class Progress:
    """How far the events have come; two equal ones in a row mean that nothing moves."""

    outbox: int
    lag: int
    audited: int
    notified: int
    letters: int
    attempts: int

    @property
    def drained(self) -> bool:
        """Whether nothing is on its way any more."""
        return self.outbox == 0 and self.lag == 0


_TIMEOUT: Final = 30.0
_ATTEMPTS: Final = "SELECT coalesce(sum(attempts), 0) FROM event_failures"


async def look(databases: Mapping[str, str], topic: Topic) -> Progress:
    """See how far the events have come."""
    attempts = [await _value(databases[consumer], _ATTEMPTS) for consumer in CONSUMERS]
    letters = [await _value(databases[consumer], "SELECT count(*) FROM dead_letters") for consumer in CONSUMERS]
    return Progress(
        outbox=await _value(databases["task-api"], "SELECT count(*) FROM outbox"),
        lag=sum([await topic.lag(consumer) for consumer in CONSUMERS]),
        audited=await _value(databases["audit-worker"], "SELECT count(*) FROM audit_entries"),
        notified=await _value(databases["notifier"], "SELECT count(*) FROM notifications"),
        letters=sum(letters),
        attempts=sum(attempts),
    )


async def gather(databases: Mapping[str, str], topic: Topic) -> Evidence:
    """Read it all, when nothing moves any more."""
    tasks = await _rows(databases["task-api"], "SELECT id, version FROM tasks")
    head = (await _rows(databases["audit-worker"], "SELECT sequence, hash FROM chain_head"))[0]
    content = await topic.content()
    return Evidence(
        versions={row["id"]: row["version"] for row in tasks},
        outbox=await _value(databases["task-api"], "SELECT count(*) FROM outbox"),
        events=content.events,
        poison=content.poison,
        entries=await _entries(databases["audit-worker"]),
        head=Head(head["sequence"], head["hash"]),
        notified=[row["event_id"] for row in await _rows(databases["notifier"], "SELECT event_id FROM notifications")],
        letters=[letter for consumer in CONSUMERS for letter in await _letters(consumer, databases[consumer])],
        gaps={consumer: await _value(databases[consumer], _OPEN_GAPS) for consumer in CONSUMERS},
    )


async def curse(databases: Mapping[str, str]) -> None:
    """Have the databases of the consumers refuse the events of some tasks for ever, as a defect of ours would."""
    for consumer, table in (("audit-worker", "audit_entries"), ("notifier", "notifications")):
        connection = await asyncpg.connect(databases[consumer], timeout=_TIMEOUT)
        try:
            await connection.execute(_CURSE.format(table=table, poisoned=POISONED_TASKS))
        finally:
            await connection.close()


_OPEN_GAPS: Final = "SELECT count(*) FROM inbox_gaps WHERE closed_at IS NULL"
_CURSE: Final = """
    CREATE FUNCTION refuse_cursed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'cursed by the chaos suite'; END $$;
    CREATE TRIGGER refuse_cursed BEFORE INSERT ON {table}
    FOR EACH ROW WHEN (NEW.task_id >= {poisoned}) EXECUTE FUNCTION refuse_cursed();
"""


async def _entries(url: str) -> list[NewEntry]:
    connection = await asyncpg.connect(url, timeout=_TIMEOUT)
    try:
        await connection.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")
        rows = await connection.fetch("SELECT * FROM audit_entries ORDER BY sequence", timeout=_TIMEOUT)
    finally:
        await connection.close()
    return [NewEntry(**row) for row in rows]


async def _letters(consumer: str, url: str) -> list[DeadLetter]:
    rows = await _rows(url, 'SELECT partition, "offset", subject, reason FROM dead_letters')
    return [DeadLetter(consumer, (row["partition"], row["offset"]), row["subject"], row["reason"]) for row in rows]


async def _rows(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url, timeout=_TIMEOUT)
    try:
        return list(await connection.fetch(query, timeout=_TIMEOUT))
    finally:
        await connection.close()


async def _value(url: str, query: str) -> int:
    (row,) = await _rows(url, query)
    return int(row[0])
