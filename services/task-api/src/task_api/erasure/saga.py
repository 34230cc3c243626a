"""Drives erasures on, in the background of every replica, until nothing is left.

1. The request and its event are committed together (service.py). From then on triggers refuse what is added.
2. The services erase and confirm. Who does not is asked again, for ever; an alarm says so.
3. Then this service erases what it holds, and last of all the id in the erasure itself. It waits for three things
   first: transactions that began before the request, events that name the user and have not left (or not been made,
   while the tasks of an engagement are being deleted), and the shortest time an erasure takes, in which every replica
   hears of it.

Each step is a transaction that finds done what is. A replica may die between any two lines; another goes on.
"""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from prometheus_client import Counter, Gauge
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import correlated, new_id
from chassis.database import Database
from chassis.logging import get_logger
from chassis.periodic import repeating
from task_api.erasure.repository import BEFORE_ALL, ErasureRepository, OpenErasure, Place
from task_api.erasure.service import CONSUMERS, Asked, request_event
from task_api.erasure.steps import STEPS
from task_api.outbox.service import Outbox

_LOOK_EVERY: Final = 1.0
_AT_ONCE: Final = 100
_BATCH: Final = 500
_ALARM_EVERY: Final = 60.0

_open = Gauge("taskwire_erasures_open", "Erasures of accounts that are not done")
_oldest = Gauge("taskwire_erasures_oldest_age_seconds", "Age of the oldest of them")
_overdue = Gauge("taskwire_erasures_overdue", "1 while the oldest of them is older than it should get")
_asked_again = Counter("taskwire_erasures_asked_again_total", "Requests to services that had not confirmed in time")
_logger = get_logger(__name__)


@dataclass(frozen=True)
class Pace:
    """How long things may take.

    Attributes:
        settle: Seconds an erasure takes at least.
        ask_again: Seconds after which services that have not confirmed are asked again.
        alarm: Seconds after which an erasure that is not done is an alarm.
    """

    settle: float
    ask_again: float
    alarm: float


@dataclass
class Saga:
    """Drives erasures on."""

    database: Database
    outbox: Outbox
    pace: Pace
    _alarmed: dict[UUID, float] = field(default_factory=dict)
    _looked_at: Place = BEFORE_ALL

    def running(self) -> AbstractAsyncContextManager[None]:
        """Drive them on in the background."""
        return repeating("drive-erasures", _LOOK_EVERY, self.turn)

    async def turn(self) -> None:
        """Take open erasures as far as they go now: the next ones each time, so that none waits for those that wait."""
        await self._observe()
        async with self.database.session() as session:
            found = await ErasureRepository(session).open_after(self._looked_at, _AT_ONCE)
        self._looked_at = found[-1] if len(found) == _AT_ONCE else BEFORE_ALL
        for _, erasure_id in found:
            with correlated(corr_id=f"erasure-{erasure_id}", request_id=new_id()):
                try:
                    while await self._advance(erasure_id):
                        pass
                except Exception:  # one that fails must not keep the others waiting
                    _logger.exception("an erasure could not be driven on", erasure=str(erasure_id))
        warned_since = time.monotonic() - _ALARM_EVERY
        self._alarmed = {key: at for key, at in self._alarmed.items() if at > warned_since}

    async def _observe(self) -> None:
        try:
            async with self.database.session() as session:
                count, age = await ErasureRepository(session).state()
        except BaseException:
            for gauge in (_open, _oldest, _overdue):
                gauge.set(math.nan)
            raise
        _open.set(count)
        _oldest.set(age)
        _overdue.set(age > self.pace.alarm)

    async def _advance(self, erasure_id: UUID) -> bool:
        """Do the next step; tells whether there may be another one now."""
        async with self.database.session() as session:
            erasures = ErasureRepository(session)
            erasure = await erasures.take(erasure_id)
            if erasure is None:
                return False
            self._warn(erasure_id, erasure)
            await erasures.fence(erasure_id)
            if missing := [service for service in CONSUMERS if service not in erasure.confirmed]:
                asked = await self._ask_again(session, erasure_id, erasure)
                await session.commit()
                if asked:
                    self.outbox.committed()
                    _asked_again.inc()
                    _logger.warning("services are asked again to erase", erasure=str(erasure_id), missing=missing)
                return False
            if not erasure.fenced or erasure.age < self.pace.settle or await erasures.has_unsent(erasure):
                await session.commit()
                return False
            erased = await _erase_some(session, erasure.owners)
            if not erased:
                await erasures.finish(erasure_id, erasure.number)
            await session.commit()
        if erased:
            _logger.info("erasing", erasure=str(erasure_id), **erased)
        else:
            _logger.info("an erasure is done", erasure=str(erasure_id), seconds=round(erasure.age, 1))
        return bool(erased)

    async def _ask_again(self, session: AsyncSession, erasure_id: UUID, erasure: OpenErasure) -> bool:
        if erasure.asked < self.pace.ask_again:
            return False
        await ErasureRepository(session).ask_again(erasure_id)
        asked = Asked(erasure_id, erasure.subject, erasure.engagements, erasure.requested_at, erasure.corr_id)
        event = request_event(asked, attempt=erasure.attempt + 1)
        await self.outbox.add_erasure_requested(session, erasure.number, event)
        return True

    def _warn(self, erasure_id: UUID, erasure: OpenErasure) -> None:
        now = time.monotonic()
        if erasure.age < self.pace.alarm or now - self._alarmed.get(erasure_id, -math.inf) < _ALARM_EVERY:
            return
        self._alarmed[erasure_id] = now
        missing = sorted(set(CONSUMERS) - erasure.confirmed)
        _logger.error("an erasure is overdue", erasure=str(erasure_id), seconds=round(erasure.age), missing=missing)


async def _erase_some(session: AsyncSession, owners: Sequence[str]) -> dict[str, int]:
    """Do the first step that has something to do; nothing when none has."""
    for step in STEPS:
        for owner in owners:
            if rows := await step.erase_some(session, owner, _BATCH):
                return {step.name: rows}
    return {}
