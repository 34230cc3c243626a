"""Makes things go wrong in a running stack, one fault at a time for each part, and puts them right again."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import httpx2
from tests.chaos import door
from tests.chaos.schedule import DISTURBANCES, LEADER, TASK_APIS, Act, Fault, Kind
from tests.chaos.topic import Topic

from devstack.polling import until

if TYPE_CHECKING:
    from devstack.stack_under_test import StackUnderTest

T = TypeVar("T")
_PATIENCE: Final = 300.0
_POLL: Final = 0.05
_RETRY: Final = 0.5
_REPLAYED: Final = 150
_STRAYS: Final = 3
_REWOUND: Final = 40
_SMALL_RECORD: Final = 4_000
_LEADER_METRIC: Final = "taskwire_outbox_published_total"


@dataclass(frozen=True)
class Struck:
    """A fault that happened.

    Attributes:
        fault: As scheduled.
        part: What it hit, where that was found out only then.
        at: When it struck, in seconds since the epoch.
        healed: When the part did its work again.
        records: How many records it put into the topic, or had delivered once more.
    """

    fault: Fault
    part: str
    at: float
    healed: float
    records: int = 0


class FaultInjector:
    """Carries out a schedule."""

    def __init__(self, stack: "StackUnderTest", topic: Topic, say: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            stack: What is hurt.
            topic: Where records are injected.
            say: Told of each fault as it happens.
        """
        self._stack, self._topic, self._say = stack, topic, say
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._began = asyncio.get_running_loop().time()

    async def carry_out(self, schedule: Sequence[Act]) -> list[Struck]:
        """Let every fault strike at its time; returns when the last one of the last act is healed."""
        return [struck for act in schedule for struck in await self._play(act)]

    async def _play(self, act: Act) -> list[Struck]:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def strike(fault: Fault) -> Struck:
            await asyncio.sleep(max(0.0, began + fault.at - loop.time()))
            struck = await self._inject(fault)
            self._say(f"{loop.time() - self._began:6.1f} s  {fault.kind} {struck.part}: over")
            return struck

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(strike(fault)) for fault in act]
        return [task.result() for task in tasks]

    async def _inject(self, fault: Fault) -> Struck:
        part = await self._leader() if fault.target == LEADER else fault.target
        if fault.kind in DISTURBANCES:
            async with self._locks[part]:
                return await self._disturb(fault, part)
        at = time.time()
        if fault.kind is Kind.REWIND:
            records = await self._rewind(part)
        elif fault.kind is Kind.REFUSE:
            records = 0
            await self._refuse(fault.lasting)
        elif fault.kind is Kind.LOCK_OUT:
            records = 0
            await self._lock_out(part, fault.lasting)
        elif fault.kind is Kind.REPLAY:
            records = await _persistently(lambda: self._topic.replay(_REPLAYED, _STRAYS))
        else:
            records = await _persistently(self._topic.poison)
        return Struck(fault, part, at, time.time(), records)

    async def _disturb(self, fault: Fault, part: str) -> Struck:
        await self._runs(part)
        at = time.time()
        match fault.kind:
            case Kind.KILL:
                await self._stack.kill(part)
            case Kind.FREEZE:
                self._stack.pause(part)
                await asyncio.sleep(fault.lasting)
                self._stack.resume(part)
            case _:
                await self._stack.stop_part(part)
                await asyncio.sleep(fault.lasting)
                await _persistently(lambda: self._stack.start_part(part))
        await self._stack.wait_ready(part)
        return Struck(fault, part, at, time.time())

    async def _runs(self, part: str) -> None:
        """Wait until there is a process to hit; it need not be ready."""

        async def is_there() -> bool:
            return self._stack.part(part)["pid"] is not None

        async with asyncio.timeout(_PATIENCE):
            await until(is_there, _POLL)

    async def _rewind(self, consumer: str) -> int:
        """Set a consumer group back, which Kafka allows only while nobody is in it."""
        sidecar = f"daprd-{consumer}"
        async with self._locks[sidecar]:
            await self._runs(sidecar)
            await self._stack.stop_part(sidecar)
            try:
                return await _persistently(lambda: self._topic.rewind(consumer, _REWOUND))
            finally:
                await _persistently(lambda: self._stack.start_part(sidecar))

    async def _refuse(self, seconds: float) -> None:
        """Have the broker refuse the larger records: not by dying, so those beside them may get through."""
        try:
            await _persistently(lambda: self._topic.take_records_up_to(_SMALL_RECORD))
            await asyncio.sleep(seconds)
        finally:
            await _persistently(lambda: self._topic.take_records_up_to(None))

    async def _lock_out(self, consumer: str, seconds: float) -> None:
        """End the connections to a consumer's database, and let nobody in."""
        url = self._stack.databases[consumer]
        try:
            await _persistently(lambda: door.shut(url))
            await asyncio.sleep(seconds)
        finally:
            await _persistently(lambda: door.reopen(url))

    async def _leader(self) -> str:
        """The replica that has published most since it started: the other one stands by, or has just been killed."""
        async with httpx2.AsyncClient(timeout=2.0) as http:
            published = {name: await _published(http, self._stack.urls[name]) for name in TASK_APIS}
        return max(TASK_APIS, key=lambda name: published[name])


async def _published(http: httpx2.AsyncClient, url: str) -> float:
    try:
        lines = (await http.get(f"{url}/metrics")).text.splitlines()
    except httpx2.TransportError:
        return -1.0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(_LEADER_METRIC))


async def _persistently(action: Callable[[], Awaitable[T]]) -> T:
    """Do what may fail while other parts are down, again and again."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        try:
            return await action()
        except Exception:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_RETRY)
