"""Each invariant is seen to fail: one thing is wrong in the evidence, and it is named."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.chaos.evidence import DeadLetter, Evidence
from tests.chaos.invariants import Invariant, violations
from tests.chaos.ledger import Change, Ledger
from tests.chaos.topic import PublishedEvent

from audit_worker.trail.chain import GENESIS, Head, content_hash, entry_hash
from audit_worker.trail.models import NewEntry

CHANGES = [(1, 1), (2, 1), (1, 2), (1, 3), (2, 2)]
"""Task and version, in the order in which everything happened."""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(head: Head, task_id: int, version: int, kind: str = "task.updated") -> NewEntry:
    made = NewEntry(
        sequence=head.sequence + 1,
        event_id=f"{task_id}.{version}",
        type=kind,
        task_id=task_id,
        task_version=version,
        owner_id="alice",
        actor="alice",
        changes={},
        task={"title": f"title {version}"},
        occurred_at=NOON,
        corr_id="c",
        recorded_at=NOON,
        salt="0" * 32,
        content_hash="",
        prev_hash=head.hash,
        hash="",
    )
    made.content_hash = content_hash(made)
    made.hash = entry_hash(made)
    return made


def trail(changes: list[tuple[int, int]]) -> list[NewEntry]:
    entries: list[NewEntry] = []
    head = GENESIS
    for task_id, version in changes:
        entries.append(entry(head, task_id, version))
        head = Head(entries[-1].sequence, entries[-1].hash)
    return entries


def event(
    task_id: int, version: int, offset: int, *, partition: int | None = None, event_id: str | None = None
) -> PublishedEvent:
    """One in the task's own partition by the relay, or in another one by the suite."""
    return PublishedEvent(
        place=(task_id if partition is None else partition, offset),
        event_id=event_id or f"{task_id}.{version}",
        task_id=task_id,
        version=version,
        title=f"title {version}",
        replayed=partition is not None,
    )


def audited(evidence: Evidence, changes: list[tuple[int, int]]) -> Evidence:
    entries = trail(changes)
    return replace(evidence, entries=entries, head=Head(len(entries), entries[-1].hash))


@pytest.fixture
def ledger() -> Ledger:
    acknowledged = [Change(task_id, version, f"title {version}", 0.0) for task_id, version in CHANGES]
    return Ledger(acknowledged, refused=3, lost=2)


@pytest.fixture
def evidence() -> Evidence:
    entries = trail(CHANGES)
    return Evidence(
        versions={1: 3, 2: 2},
        outbox=0,
        events=[event(task_id, version, offset) for offset, (task_id, version) in enumerate(CHANGES)],
        poison=[(0, 5)],
        entries=entries,
        head=Head(len(entries), entries[-1].hash),
        notified=[f"{task_id}.{version}" for task_id, version in CHANGES],
        letters=[DeadLetter(name, (0, 5), None, "not JSON") for name in ("audit-worker", "notifier")],
        gaps={"audit-worker": 0, "notifier": 0},
    )


def test_nothing_is_wrong_when_nothing_is_wrong(ledger: Ledger, evidence: Evidence) -> None:
    assert violations(ledger, evidence) == []


def test_duplicates_in_the_topic_are_no_fault(ledger: Ledger, evidence: Evidence) -> None:
    again = [event(1, 1, 6), event(1, 3, 7), event(1, 2, 8, partition=1)]
    assert violations(ledger, replace(evidence, events=[*evidence.events, *again])) == []


def test_what_the_suite_itself_lets_overtake_may_be_audited_out_of_order(ledger: Ledger, evidence: Evidence) -> None:
    astray = replace(evidence, events=[event(2, 2, 0, partition=5), *evidence.events])
    overtaken = audited(astray, [(1, 1), (2, 2), (2, 1), (1, 2), (1, 3)])
    assert violations(ledger, overtaken) == []


WRONG: dict[str, tuple[Callable[[Evidence], Evidence], set[Invariant]]] = {
    "a change is missing from the trail": (
        lambda e: audited(e, [change for change in CHANGES if change != (1, 3)]),
        {Invariant.KEPT, Invariant.AUDITED},
    ),
    "a change is in the trail twice": (
        lambda e: audited(e, [*CHANGES, (2, 2)]),
        {Invariant.AUDITED, Invariant.ORDERED},
    ),
    "the trail has a change nobody made": (lambda e: audited(e, [*CHANGES, (3, 1)]), {Invariant.AUDITED}),
    "versions were audited in another order": (
        lambda e: audited(e, [(1, 2), (1, 1), (1, 3), (2, 1), (2, 2)]),
        {Invariant.ORDERED},
    ),
    "versions were published in another order": (
        lambda e: replace(e, events=[e.events[0], e.events[3], e.events[2], e.events[1], e.events[4]]),
        {Invariant.ORDERED},
    ),
    "a version was published as two events": (
        lambda e: replace(e, events=[*e.events, event(1, 3, 9, event_id="other")]),
        {Invariant.ORDERED},
    ),
    "something was published that was never committed": (
        lambda e: replace(e, events=[*e.events, event(1, 4, 9)]),
        {Invariant.COMMITTED},
    ),
    "something was published otherwise than it was committed": (
        lambda e: replace(e, events=[*e.events[:-1], replace(e.events[-1], title="else")]),
        {Invariant.COMMITTED},
    ),
    "a notification is missing": (lambda e: replace(e, notified=e.notified[1:]), {Invariant.NOTIFIED}),
    "a notification is there twice": (lambda e: replace(e, notified=["1.1", *e.notified]), {Invariant.NOTIFIED}),
    "a notification is of nothing": (lambda e: replace(e, notified=["?", *e.notified]), {Invariant.NOTIFIED}),
    "a healthy event was given up": (
        lambda e: replace(e, letters=[*e.letters, DeadLetter("notifier", (1, 0), "1", "no answer")]),
        {Invariant.HEALTHY},
    ),
    "poison is in the dead letters of one consumer only": (
        lambda e: replace(e, letters=e.letters[:1]),
        {Invariant.BURIED},
    ),
    "poison is in the dead letters twice": (lambda e: replace(e, letters=e.letters * 2), {Invariant.BURIED}),
    "a gap is open": (lambda e: replace(e, gaps={"notifier": 1}), {Invariant.CLOSED}),
    "the end of the trail was cut off": (lambda e: replace(e, head=Head(9, "f" * 64)), {Invariant.CHAINED}),
    "an entry was tampered with": (
        lambda e: replace(e, entries=[replace(e.entries[0], actor="mallory"), *e.entries[1:]]),
        {Invariant.CHAINED},
    ),
    "events wait in the outbox": (lambda e: replace(e, outbox=1), {Invariant.EMPTY}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named(ledger: Ledger, evidence: Evidence, wrong: str) -> None:
    spoil, expected = WRONG[wrong]
    assert {violation.invariant for violation in violations(ledger, spoil(evidence))} == expected


def test_an_answer_that_no_outage_explains_is_named(ledger: Ledger, evidence: Evidence) -> None:
    ledger.unexpected["PATCH: 500"] += 1
    (violation,) = violations(ledger, evidence)
    assert (violation.invariant, violation.detail) == (Invariant.ANSWERED, "1 x PATCH: 500")


def test_an_acknowledged_change_must_be_there_as_it_was_acknowledged(ledger: Ledger, evidence: Evidence) -> None:
    ledger.acknowledged[0] = replace(ledger.acknowledged[0], title="another")
    assert Invariant.KEPT in {violation.invariant for violation in violations(ledger, evidence)}


def test_an_acknowledged_deletion_must_be_there(ledger: Ledger, evidence: Evidence) -> None:
    ledger.acknowledged.append(Change(2, None, "title 2", 0.0))
    assert {violation.invariant for violation in violations(ledger, evidence)} == {Invariant.KEPT}
    entries = [*evidence.entries[:-1], entry(Head(4, evidence.entries[3].hash), 2, 2, "task.deleted")]
    deleted = replace(evidence, entries=entries, head=Head(5, entries[-1].hash))
    assert violations(ledger, deleted) == []
