"""What becomes of delivered events: one transaction for all that came together, one answer for each.

A batch is one transaction: inbox and effect of every event in it. When it fails, and not for want of a database, it
is halved and each half tried again, until the event whose fault it is stands alone; the others go through.

The answer is SUCCESS or RETRY, never Dapr's DROP, which daprd 1.18 does not take for every entry of a batch: whoever
cannot process an event keeps it, in its own database, before it says SUCCESS.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from opentelemetry.trace import Span, SpanKind
from prometheus_client import Gauge, Histogram
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import correlated, new_id
from chassis.database import Database, DatabaseUnavailableError, blames_the_schema
from chassis.inbox import ReceivedEvent, Verdict, receive, report_received
from chassis.logging import get_logger
from chassis.sidecar import Status
from chassis.tracing import detached_span, joint_span, of_message, within_span
from task_events import InvalidEventError, TaskEvent, parse_task_event
from task_events.topics import TASKS_TOPIC

DELIVERY_TIMEOUT: Final = 3.0
"""Seconds for one delivery: below the 4 s after which daprd gives up on it (`components/resiliency.yaml`)."""
# Of that, for a batch as a whole, and for each part of one that failed: so that an event which hangs, waiting for a
# lock, leaves time for the others, down to the seventh halving.
_WHOLE_BATCH_TIMEOUT: Final = 1.2
_PART_TIMEOUT: Final = 0.25
_LEAST_TIMEOUT: Final = 0.02
# For keeping one that failed; and how much later than the delivery's time that may end.
_KEEP_TIMEOUT: Final = 1.0
_KEEP_GRACE: Final = 0.5

_delay = Histogram(
    "taskwire_event_delay_seconds",
    "From a change to the commit of its effect here, for events that were new",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800),
)
_last_success = Gauge(
    "taskwire_event_last_success_timestamp_seconds",
    "When an event was last processed or put aside, Unix time; the start of the process before the first one",
)
_last_success.set_to_current_time()
_logger = get_logger(__name__)


Effect = Callable[[AsyncSession, Sequence[ReceivedEvent]], Awaitable[None]]
"""What a consumer does with events that are not duplicates, in their order, inside the inbox transaction."""


@dataclass(frozen=True)
class Record:
    """What the sidecar delivered.

    Attributes:
        body: The bytes that are in Kafka.
        metadata: What the sidecar says of the record, `__topic`, `__partition` and `__offset` among it.
    """

    body: bytes
    metadata: Mapping[str, str] = field(default_factory=dict)


KeepFailed = Callable[[Record, str | None, Exception], Awaitable[bool]]
"""Given a record that failed by its own fault, the id of its event if it could be read, and the error.

Tells whether it is settled: kept for good, so that nothing is lost when it is not delivered again. Otherwise it will be
delivered again, also when this raises anything."""


@dataclass(frozen=True)
class _Delivered:
    """An event that could be read, where it stood in the delivery, and its consumer span."""

    place: int
    record: Record
    event: TaskEvent
    span: Span

    @contextmanager
    def context(self) -> Iterator[None]:
        """Have logs carry the event's correlation id and trace."""
        with correlated(corr_id=self.event.data.corr_id, request_id=new_id()), within_span(self.span):
            yield


@dataclass
class _Round:
    """One delivery while it is worked off. What nobody got round to is RETRY."""

    answers: list[Status]
    deadline: float
    unreadable: list[tuple[int, Record, Exception]] = field(default_factory=list)
    errors: list[tuple[str, _Delivered | None, Exception]] = field(default_factory=list)
    held_back: set[str] = field(default_factory=set)
    over: bool = False

    def seconds_for(self, events: int) -> float:
        """Tell how long the next transaction may take, so that the answer is in time."""
        left = self.deadline - asyncio.get_running_loop().time()
        if len(self.answers) == 1:
            return left
        return min(left, _WHOLE_BATCH_TIMEOUT if events == len(self.answers) else _PART_TIMEOUT)

    def seconds_to_keep(self) -> float:
        """Tell how long keeping one that failed may take."""
        left = self.deadline + _KEEP_GRACE - asyncio.get_running_loop().time()
        return left if len(self.answers) == 1 else min(left, _KEEP_TIMEOUT)


class EventConsumer:
    """Takes task events into a service's database, each exactly once."""

    def __init__(self, database: Database, effect: Effect, keep_failed: KeepFailed) -> None:
        """Prepare a consumer.

        Args:
            database: Holds the inbox and the effect.
            effect: Called once for the new events of a delivery.
            keep_failed: Called for each record that cannot be read or failed by its own fault. Not for an outage of
                the database: that is nothing an event can help, and there is nowhere to keep it.
        """
        self._database, self._effect, self._keep_failed = database, effect, keep_failed

    async def consume(self, records: Sequence[Record]) -> list[Status]:
        """Process what was delivered together and give the answer to each; never raises."""
        loop = asyncio.get_running_loop()
        turn = _Round([Status.RETRY] * len(records), loop.time() + DELIVERY_TIMEOUT)
        with ExitStack() as spans:
            delivered = self._read(records, turn, spans)
            await self._settle(delivered, turn)
            for place, record, error in turn.unreadable:
                await self._keep(place, record, None, error, turn)
            _log_errors(turn)
        return turn.answers

    def _read(self, records: Sequence[Record], turn: _Round, spans: ExitStack) -> list[_Delivered]:
        delivered = []
        for place, record in enumerate(records):
            try:
                event = parse_task_event(record.body)
            except InvalidEventError as error:
                _logger.warning("no event of ours was delivered", reason=str(error), size_bytes=len(record.body))
                turn.unreadable.append((place, record, error))
                continue
            delivered.append(_Delivered(place, record, event, spans.enter_context(_consumer_span(event))))
        return delivered

    async def _settle(self, batch: Sequence[_Delivered], turn: _Round) -> None:
        """Apply a batch; where it fails by the fault of an event, apply its halves, in order."""
        batch = [one for one in batch if one.event.subject not in turn.held_back]
        if not batch or turn.over:
            return
        failure = await self._try(batch, turn)
        if failure is None:
            return
        if len(batch) == 1:
            await self._fail(batch[0], failure, turn)
            return
        half = len(batch) // 2
        _logger.info("a batch is halved", events=len(batch), reason=repr(failure))
        await self._settle(batch[:half], turn)
        await self._settle(batch[half:], turn)

    async def _try(self, batch: Sequence[_Delivered], turn: _Round) -> Exception | None:
        """Apply a batch in one transaction; give the error if it may be the fault of an event in it."""
        seconds = turn.seconds_for(len(batch))
        if seconds < _LEAST_TIMEOUT:
            turn.over = True
            return None
        with ExitStack() as contexts:
            if len(batch) == 1:
                contexts.enter_context(batch[0].context())
            try:
                with joint_span(f"apply {TASKS_TOPIC}", [one.span for one in batch]):
                    async with asyncio.timeout(seconds):
                        received = await self._apply([one.event for one in batch])
            except DatabaseUnavailableError as error:
                turn.over = True
                _logger.warning("events will be delivered again", events=len(batch), reason=error.detail)
            except Exception as error:  # noqa: BLE001  (logged and answered once it is known whose fault it is)
                if not blames_the_schema(error):
                    return error
                turn.over = True
                turn.errors.append(("events will be delivered again: the schema does not fit", None, error))
            else:
                self._succeed(batch, received, turn)
        return None

    async def _apply(self, events: Sequence[TaskEvent]) -> list[ReceivedEvent]:
        async with self._database.session() as session:
            received = await apply_events(session, events, self._effect)
            await session.commit()
        return received

    def _succeed(self, batch: Sequence[_Delivered], received: Sequence[ReceivedEvent], turn: _Round) -> None:
        _last_success.set_to_current_time()
        now = datetime.now(UTC)
        for one, item in zip(batch, received, strict=True):
            turn.answers[one.place] = Status.SUCCESS
            if item.receipt.verdict is not Verdict.DUPLICATE:
                _delay.observe(max(0.0, (now - one.event.data.occurred_at).total_seconds()))
            one.span.set_attribute("taskwire.inbox.verdict", item.receipt.verdict.value)
            with one.context():
                report_received(item)
                _logger.info(
                    "event processed",
                    event_id=one.event.id,
                    type=one.event.type.value,
                    task_id=one.event.data.task.id,
                    version=one.event.data.task.version,
                    verdict=item.receipt.verdict.value,
                )

    async def _fail(self, one: _Delivered, error: Exception, turn: _Round) -> None:
        """Have an event that failed kept, or delivered again.

        Nothing of its task goes before it as long as it may still succeed; once it is kept, nothing waits for it.
        """
        if isinstance(error, TimeoutError):
            # A database that is frozen looks like this: no fault of the event, however often it happens.
            _logger.warning("event will be delivered again", event_id=one.event.id, reason="no answer in time")
            turn.held_back.add(one.event.subject)
            return
        turn.errors.append(("event could not be processed", one, error))
        with one.context():
            settled = await self._keep(one.place, one.record, one.event.id, error, turn)
        if not settled:
            turn.held_back.add(one.event.subject)

    async def _keep(self, place: int, record: Record, event_id: str | None, error: Exception, turn: _Round) -> bool:
        seconds = turn.seconds_to_keep()
        if seconds < _LEAST_TIMEOUT:
            return False
        try:
            async with asyncio.timeout(seconds):
                settled = await self._keep_failed(record, event_id, error)
        except (DatabaseUnavailableError, TimeoutError) as outage:
            _logger.warning("a failed event will be delivered again, it could not be kept", reason=repr(outage))
            return False
        except Exception as defect:  # noqa: BLE001  (of ours, or no room: what cannot be kept must not be let go)
            turn.errors.append(("a failed event will be delivered again, it could not be kept", None, defect))
            return False
        if settled:
            turn.answers[place] = Status.SUCCESS
            _last_success.set_to_current_time()  # no standstill: dead letters are counted, and told of, by themselves
        return settled


async def apply_events(session: AsyncSession, events: Sequence[TaskEvent], effect: Effect) -> list[ReceivedEvent]:
    """Take events through the inbox to their effect, whoever brings them; the caller commits, and then reports."""
    received = await receive(session, events)
    new = [item for item in received if item.receipt.verdict is not Verdict.DUPLICATE]
    if new:
        await effect(session, new)
    return received


def _log_errors(turn: _Round) -> None:
    """Write the tracebacks when all is done: rendering them takes time that the other events need."""
    for message, one, error in turn.errors:
        if one is None:
            _logger.error(message, exc_info=error)
            continue
        with one.context():
            _logger.error(message, event_id=one.event.id, type=one.event.type.value, exc_info=error)


def _consumer_span(event: TaskEvent) -> AbstractContextManager[Span]:
    return detached_span(
        f"process {TASKS_TOPIC}",
        traceparent=event.traceparent,
        kind=SpanKind.CONSUMER,
        attributes=of_message("process", topic=TASKS_TOPIC, event_id=event.id, event_type=event.type.value),
    )
