"""Updates and kills of services in a cluster while clients write, and what became of the changes."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Final

import httpx2
from tests.chaos.evidence import Evidence, gather
from tests.chaos.invariants import Violation, violations
from tests.chaos.ledger import Change, Ledger
from tests.chaos.run import drain
from tests.chaos.topic import Topic
from tests.chaos.writers import Writer
from tests.deploy.retrying import PATIENCE, RetryingTransport, Tally

_WRITERS: Final = 6
_SETTLE: Final = 3.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Disturbance:
    """Something that is done to a service under load.

    Attributes:
        name: In the table.
        service: Whose pods.
        do: Does it, and returns when the service is whole again.
        settles: Seconds until nothing of it is under way any more.
    """

    name: str
    service: str
    do: Callable[[], None]
    settles: float = _SETTLE


@dataclass(frozen=True)
class Phase:
    """One disturbance, and what the clients saw meanwhile.

    Attributes:
        disturbance: Which one.
        began: Seconds since the epoch.
        ended: Likewise; the next one begins here.
        seen: Requests and errors between the two.
    """

    disturbance: Disturbance
    began: float
    ended: float
    seen: Tally


@dataclass(frozen=True)
class Result:
    """What it all came to.

    Attributes:
        phases: One after the other.
        ledger: What the writers were told.
        evidence: What was there afterwards.
        violations: Where an invariant does not hold.
        drained: Whether everything arrived in the end.
    """

    phases: Sequence[Phase]
    ledger: Ledger
    evidence: Evidence
    violations: Sequence[Violation]
    drained: bool


@dataclass
class Load:
    """Clients that write at a steady rate.

    Attributes:
        url: Of task-api.
        token: Makes a token for a user.
        rate: Changes per second, all of them together.
        ledger: What they were told.
        tally: What their requests met on the way.
    """

    url: str
    token: Callable[[str], str]
    rate: float
    ledger: Ledger = field(default_factory=Ledger)
    tally: Tally = field(default_factory=Tally)

    async def run(self, over: asyncio.Event) -> None:
        """Write until it is over, and wait for the last answers."""
        async with AsyncExitStack() as clients, asyncio.TaskGroup() as group:
            for number in range(_WRITERS):
                name = f"rolling-{time.time_ns()}-{number}"
                http = await clients.enter_async_context(
                    httpx2.AsyncClient(
                        transport=RetryingTransport(self.tally, _connections(number)),
                        headers={"Authorization": f"Bearer {self.token(name)}"},
                        timeout=None,
                    )
                )
                chance = random.Random(number)  # noqa: S311
                writer = Writer(name, http, [self.url], self.ledger, chance, patience=2 * PATIENCE)
                group.create_task(writer.write(self.rate / _WRITERS, over))


async def roll(
    load: Load, disturbances: Sequence[Disturbance], databases: Mapping[str, str], topic: Topic, say: Say
) -> Result:
    """Disturb one service after the other under load, let everything arrive, and check the invariants."""
    over = asyncio.Event()
    phases: list[Phase] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(over))
        try:
            await asyncio.sleep(_SETTLE)
            for disturbance in disturbances:
                phases.append(await _phase(load, disturbance))
                say(f"{disturbance.name} of {disturbance.service}: {phases[-1].ended - phases[-1].began:.1f} s")
        finally:
            over.set()
    drained = await drain(databases, topic, patience=90.0, deadline=300.0, say=say)
    evidence = await gather(databases, topic)
    return Result(phases, load.ledger, evidence, violations(load.ledger, evidence), drained)


async def _phase(load: Load, disturbance: Disturbance) -> Phase:
    before, began = replace(load.tally, causes=dict(load.tally.causes)), time.time()
    await asyncio.to_thread(disturbance.do)
    await asyncio.sleep(disturbance.settles)
    after = load.tally
    causes = {cause: count - before.causes.get(cause, 0) for cause, count in after.causes.items()}
    seen = Tally(
        requests=after.requests - before.requests,
        errors=after.errors - before.errors,
        retried=after.retried - before.retried,
        failed=after.failed - before.failed,
        causes={cause: count for cause, count in causes.items() if count},
    )
    return Phase(disturbance, began, time.time(), seen)


def table(result: Result) -> str:
    """One row per disturbance: what clients met, and what became of the changes acknowledged meanwhile."""
    head = f"{'SERVICE':<14}{'DISTURBANCE':<16}{'SECONDS':>8}{'REQUESTS':>10}{'ERRORS':>8}{'RETRIED':>9}{'FAILED':>8}"
    lines = [f"{head}{'EVENTS':>8}{'LOST':>6}{'DOUBLED':>9}"]
    arrivals = _arrivals(result.evidence)
    for phase in result.phases:
        changes = [one for one in result.ledger.acknowledged if phase.began <= one.at < phase.ended]
        lost, doubled = _verdict(changes, arrivals)
        seen, what = phase.seen, phase.disturbance
        row = f"{what.service:<14}{what.name:<16}{phase.ended - phase.began:>8.1f}{seen.requests:>10}{seen.errors:>8}"
        lines.append(f"{row}{seen.retried:>9}{seen.failed:>8}{len(changes):>8}{lost:>6}{doubled:>9}")
    lost, doubled = _verdict(result.ledger.acknowledged, arrivals)
    causes = Counter[str]()
    for phase in result.phases:
        causes.update(phase.seen.causes)
    published = len({event.event_id for event in result.evidence.events})
    return "\n".join(
        [
            *lines,
            "",
            (
                f"in all: {len(result.ledger.acknowledged)} changes acknowledged, {lost} lost, {doubled} doubled; "
                f"{len(result.evidence.entries)} audited, {len(result.evidence.notified)} notified; "
                f"{published} events published, and {len(result.evidence.events) - published} a second time"
            ),
            f"errors that a retry absorbed: {dict(causes) or 'none'}",
            f"invariants violated: {len(result.violations)}",
        ]
    )


def _connections(number: int) -> httpx2.AsyncHTTPTransport:
    """Every second client keeps its connections, as browsers do; the others make one per request, as scripts do.

    Who keeps one hardly notices that a Service still names a pod that takes no more.
    """
    kept = None if number % 2 else 0
    return httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=kept))


_Arrivals = Counter[tuple[int, int]]


def _arrivals(evidence: Evidence) -> tuple[_Arrivals, _Arrivals]:
    """How often each change was audited, and how often its user was notified."""
    changes = {event.event_id: (event.task_id, event.version) for event in evidence.events}
    audited = Counter((entry.task_id, entry.task_version) for entry in evidence.entries)
    return audited, Counter(changes[one] for one in evidence.notified if one in changes)


def _verdict(changes: Sequence[Change], arrivals: tuple[_Arrivals, _Arrivals]) -> tuple[int, int]:
    """Lost and doubled ones among changes, in the trail or among the notifications; a deletion has no version."""
    counts = [[arrived[one.task_id, one.version] for arrived in arrivals] for one in changes if one.version is not None]
    return sum(0 in count for count in counts), sum(max(count) > 1 for count in counts)
