"""What must hold after any pile of faults; each check looks at the evidence alone, so each can be seen to fail."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.chaos.evidence import Evidence
from tests.chaos.ledger import Ledger
from tests.chaos.schedule import CONSUMERS

from audit_worker.trail.chain import verify_chain


class Invariant(StrEnum):
    """What is promised, in the words of the table."""

    ANSWERED = "every answer is a success, a 503 or none at all"
    KEPT = "every acknowledged change is there, as it was acknowledged"
    AUDITED = "every committed change has exactly one audit entry"
    ORDERED = "the versions of a task are audited and published in order, without holes"
    COMMITTED = "nothing was published that was not committed"
    NOTIFIED = "every committed change has exactly one notification"
    HEALTHY = "no healthy event is in the dead letters"
    BURIED = "every poison record is in the dead letters of each consumer, once"
    CLOSED = "no gap is open"
    CHAINED = "the audit trail's chain is intact"
    EMPTY = "the outbox is empty"


@dataclass(frozen=True)
class Violation:
    """One place where an invariant does not hold."""

    invariant: Invariant
    detail: str


Problems = Iterator[str]


def violations(ledger: Ledger, evidence: Evidence) -> list[Violation]:
    """Check every invariant."""
    return [Violation(invariant, detail) for invariant, check in _CHECKS.items() for detail in check(ledger, evidence)]


def _answered(ledger: Ledger, _: Evidence) -> Problems:
    for answer, count in ledger.unexpected.items():
        yield f"{count} x {answer}"


def _kept(ledger: Ledger, evidence: Evidence) -> Problems:
    titles = {(entry.task_id, entry.task_version): entry.task["title"] for entry in evidence.entries}
    deletions = {entry.task_id for entry in evidence.entries if entry.type == "task.deleted"}
    for change in ledger.acknowledged:
        if change.version is None:
            if change.task_id not in deletions:
                yield f"the deletion of task {change.task_id} was acknowledged and is not in the trail"
        elif (found := titles.get((change.task_id, change.version))) != change.title:
            is_there = "is not in the trail" if found is None else f"says {found!r} there"
            yield f"version {change.version} of task {change.task_id} was acknowledged and {is_there}"


def _audited(_: Ledger, evidence: Evidence) -> Problems:
    audited = Counter((entry.task_id, entry.task_version) for entry in evidence.entries)
    yield from _exactly_once(audited, _committed(evidence), "audit entries")


def _ordered(_: Ledger, evidence: Evidence) -> Problems:
    strays = _strays(evidence)
    audited = ((entry.task_id, entry.task_version) for entry in evidence.entries if entry.task_id not in strays)
    yield from _out_of_order(audited, "audited")
    published: dict[tuple[int, int], str] = {}
    for event in evidence.events:
        if event.replayed:
            continue
        known = published.setdefault((event.task_id, event.version), event.event_id)
        if known != event.event_id:
            yield f"version {event.version} of task {event.task_id} was published under two event ids"
    # The first time counts: what was published again after a lost answer is a duplicate, and known as one.
    yield from _out_of_order(published, "published")


def _published_is_committed(ledger: Ledger, evidence: Evidence) -> Problems:
    titles = {(change.task_id, change.version): change.title for change in ledger.acknowledged}
    for event in evidence.events:
        if event.version > evidence.versions.get(event.task_id, 0):
            yield f"version {event.version} of task {event.task_id} was published and never committed"
        elif titles.get((event.task_id, event.version), event.title) != event.title:
            yield f"version {event.version} of task {event.task_id} was published as {event.title!r}"


def _notified(_: Ledger, evidence: Evidence) -> Problems:
    changes = {event.event_id: (event.task_id, event.version) for event in evidence.events}
    known = [changes[event_id] for event_id in evidence.notified if event_id in changes]
    yield from _exactly_once(Counter(known), _committed(evidence), "notifications")
    if strangers := len(evidence.notified) - len(known):
        yield f"{strangers} notifications are of no event in the topic"


def _healthy(_: Ledger, evidence: Evidence) -> Problems:
    poison = set(evidence.poison)
    for letter in evidence.letters:
        if letter.place not in poison:
            yield f"{letter.consumer} gave up {letter.place} (task {letter.subject}): {letter.reason[:120]}"


def _buried(_: Ledger, evidence: Evidence) -> Problems:
    for consumer in CONSUMERS:
        letters = Counter(letter.place for letter in evidence.letters if letter.consumer == consumer)
        for place in evidence.poison:
            if letters[place] != 1:
                yield f"the poison at {place} is {letters[place]} times in the dead letters of {consumer}"


def _closed(_: Ledger, evidence: Evidence) -> Problems:
    for consumer, gaps in evidence.gaps.items():
        if gaps:
            yield f"{consumer} has {gaps} open gaps"


def _chained(_: Ledger, evidence: Evidence) -> Problems:
    for fault in verify_chain(evidence.entries, head=evidence.head):
        yield f"entry {fault.sequence}: {fault.problem}"


def _empty(_: Ledger, evidence: Evidence) -> Problems:
    if evidence.outbox:
        yield f"{evidence.outbox} events wait in the outbox"


_CHECKS: Final[Mapping[Invariant, Callable[[Ledger, Evidence], Problems]]] = {
    Invariant.ANSWERED: _answered,
    Invariant.KEPT: _kept,
    Invariant.AUDITED: _audited,
    Invariant.ORDERED: _ordered,
    Invariant.COMMITTED: _published_is_committed,
    Invariant.NOTIFIED: _notified,
    Invariant.HEALTHY: _healthy,
    Invariant.BURIED: _buried,
    Invariant.CLOSED: _closed,
    Invariant.CHAINED: _chained,
    Invariant.EMPTY: _empty,
}


def _strays(evidence: Evidence) -> set[int]:
    """Give the tasks whose events the suite itself has let overtake each other, in another partition than theirs."""
    homes = {event.task_id: event.place[0] for event in evidence.events if not event.replayed}
    return {event.task_id for event in evidence.events if event.place[0] != homes.get(event.task_id)}


def _committed(evidence: Evidence) -> Iterator[tuple[int, int]]:
    for task_id, last in evidence.versions.items():
        for version in range(1, last + 1):
            yield task_id, version


def _exactly_once(found: Mapping[tuple[int, int], int], wanted: Iterable[tuple[int, int]], things: str) -> Problems:
    wanted = set(wanted)
    for task_id, version in sorted(wanted | set(found)):
        count = found.get((task_id, version), 0)
        expected = int((task_id, version) in wanted)
        if count != expected:
            yield f"version {version} of task {task_id} has {count} {things} instead of {expected}"


def _out_of_order(versions: Iterable[tuple[int, int]], done: str) -> Problems:
    last: defaultdict[int, int] = defaultdict(int)
    for task_id, version in versions:
        if version != last[task_id] + 1:
            yield f"version {version} of task {task_id} was {done} after version {last[task_id]}"
        last[task_id] = version
