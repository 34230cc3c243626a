"""One run of the chaos suite: write and break, let it drain, gather the evidence, check the invariants."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import httpx2
from tests.chaos.evidence import Evidence, Progress, curse, gather, look
from tests.chaos.faults import FaultInjector, Struck
from tests.chaos.invariants import Violation, violations
from tests.chaos.ledger import Ledger
from tests.chaos.schedule import PARTS, TASK_APIS, Act, Scene, make_schedule, make_short_schedule
from tests.chaos.topic import Topic
from tests.chaos.writers import Writer

from devstack.control import ControlError
from devstack.failures import ProvisionError
from devstack.stack_under_test import StackUnderTest

_TWO_RELAYS: Final[Mapping[str, str]] = {"TASKWIRE_REPLICAS": "task-api=2"}
_WRITERS: Final = 4
_LOOK_EVERY: Final = 1.0
_STILL: Final = 3
"""Looks in a row that must see the same before it counts as drained."""


@dataclass(frozen=True)
class Plan:
    """What one run does.

    Attributes:
        seed: Decides the faults, and what the writers do.
        seconds: How long it takes, from the first fault to the last, where everything heals quickly.
        kills: How many times a part is killed, frozen or stopped.
        rate: Changes per second, all writers together.
        patience: Seconds without any progress after which the rest is given up.
        deadline: Seconds after which it is given up in any case.
        scenes: Only these, in place of a schedule made from the seed.
    """

    seed: int
    seconds: float
    kills: int
    rate: float = 20.0
    patience: float = 90.0
    deadline: float = 180.0
    scenes: tuple[Scene, ...] = ()

    @property
    def schedule(self) -> list[Act]:
        """What goes wrong when."""
        if self.scenes:
            return make_short_schedule(self.scenes)
        return make_schedule(self.seed, seconds=self.seconds, kills=self.kills)


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        plan: What was asked for.
        ledger: What the writers were told.
        struck: What went wrong.
        evidence: What was there afterwards.
        violations: Where an invariant does not hold; none is the point of it all.
        drained_after: Seconds from the last fault until nothing moved any more; None when it never came to that.
    """

    plan: Plan
    ledger: Ledger
    struck: list[Struck]
    evidence: Evidence
    violations: list[Violation]
    drained_after: float | None

    @property
    def held(self) -> bool:
        """Whether everything is as it must be."""
        return not self.violations and self.drained_after is not None


def run(plan: Plan, environment: Mapping[str, str], say: Callable[[str], None]) -> Result:
    """Start a stack with two relays, carry out a plan on it, and end it.

    Args:
        plan: What to do.
        environment: Further settings of the stack and its services.
        say: Told what is going on, line by line.
    """
    # Its clients log every refused connection while the broker is down, and it is down often.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    with StackUnderTest({**_TWO_RELAYS, **environment}) as stack:
        say(f"seed {plan.seed}; logs in {stack.layout.logs} (TASKWIRE_KEEP_TEST_STACK=1 keeps them)")
        return asyncio.run(_unleash(stack, plan, say))


async def _unleash(stack: StackUnderTest, plan: Plan, say: Callable[[str], None]) -> Result:
    topic = Topic(stack.kafka, random.Random(plan.seed))  # noqa: S311
    ledger = Ledger()
    databases = {name: url for name, url in stack.databases.items() if name not in TASK_APIS[1:]}
    await curse(databases)
    injector = FaultInjector(stack, topic, say)
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_write(stack, plan, ledger, over))
        struck = await injector.carry_out(plan.schedule)
        over.set()
    say(f"{len(ledger.acknowledged)} changes acknowledged; waiting for the rest to arrive")
    ended = time.monotonic()
    await _heal(stack)
    drained = await drain(databases, topic, patience=plan.patience, deadline=plan.deadline, say=say)
    evidence = await gather(databases, topic)
    return Result(
        plan=plan,
        ledger=ledger,
        struck=struck,
        evidence=evidence,
        violations=violations(ledger, evidence),
        drained_after=time.monotonic() - ended if drained else None,
    )


async def _write(stack: StackUnderTest, plan: Plan, ledger: Ledger, over: asyncio.Event) -> None:
    """Have every writer write for as long as faults strike: one that nobody notices would prove nothing."""
    urls = [stack.urls[name] for name in TASK_APIS]
    async with AsyncExitStack() as clients, asyncio.TaskGroup() as group:
        for number in range(_WRITERS):
            name = f"chaos-{plan.seed}-{number}"
            http = await clients.enter_async_context(
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {stack.token(name)}"}, timeout=None)
            )
            writer = Writer(name, http, urls, ledger, random.Random(f"{plan.seed} {number}"))  # noqa: S311
            group.create_task(writer.write(plan.rate / _WRITERS, over))
            await asyncio.sleep(1 / plan.rate)


async def _heal(stack: StackUnderTest) -> None:
    """Have every part run and be ready, whatever gave up meanwhile for want of another one."""
    for part in PARTS:
        for _ in range(5):
            try:
                await stack.start_part(part)
                break
            except (ControlError, ProvisionError):
                await asyncio.sleep(2)
    await stack.wait_all_ready()


async def drain(
    databases: Mapping[str, str], topic: Topic, *, patience: float, deadline: float, say: Callable[[str], None]
) -> bool:
    """Wait until nothing is on its way any more; False when it stopped moving before that.

    Args:
        databases: Connection strings by service.
        topic: Where the events are.
        patience: Seconds without any progress after which the rest is given up.
        deadline: Seconds after which it is given up in any case.
        say: Told what cannot be seen, and what is left.
    """
    seen: list[Progress] = []
    moved_at = began = time.monotonic()
    while time.monotonic() - moved_at < patience and time.monotonic() - began < deadline:
        try:
            progress = await look(databases, topic)
        except Exception as error:  # noqa: BLE001  (parts may still be on their way up)
            say(f"cannot look yet: {error!r}")
            await asyncio.sleep(_LOOK_EVERY)
            continue
        if not seen or progress != seen[-1]:
            moved_at = time.monotonic()
        seen.append(progress)
        if progress.drained and len(seen) >= _STILL and all(one == progress for one in seen[-_STILL:]):
            return True
        await asyncio.sleep(_LOOK_EVERY)
    say(f"nothing moves any more, but it is not drained: {seen[-1] if seen else 'nothing was ever seen'}")
    return False
