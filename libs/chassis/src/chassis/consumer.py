"""What becomes of delivered events: one transaction for all that came together, one answer for each.

A batch is one transaction: inbox and effect of every event in it. When it fails, and not for want of a database, it
is halved and each half tried again, until the event whose fault it is stands alone; the others go through.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from opentelemetry.trace import Span, SpanKind
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import correlated, new_id
from chassis.database import Database, DatabaseUnavailableError
from chassis.dead_letters.reasons import describe_failure
from chassis.inbox import ReceivedEvent, Verdict, receive, report_received
from chassis.logging import get_logger
from chassis.tracing import detached_span, within_span
from task_events import InvalidEventError, TaskEvent, parse_task_event
from task_events.topics import TASKS_TOPIC

DELIVERY_TIMEOUT: Final = 3.0
"""Seconds for one delivery: below the 4 s after which daprd gives up on it (`components/resiliency.yaml`)."""
_REPORT_TIMEOUT: Final = 0.5
# Of that, for a batch as a whole, and for each part of one that failed: so that an event which hangs, waiting for a
# lock, leaves time for the others, down to the seventh halving.
_WHOLE_BATCH_TIMEOUT: Final = 1.2
_PART_TIMEOUT: Final = 0.25
_LEAST_TIMEOUT: Final = 0.02
_HOLD_BACK_FAILURES: Final = 3
_GIVE_UP_AFTER: Final = 8
"""Failed attempts, 3 s apart, after which an event is dropped to the dead-letter topic."""

_REMEMBERED_FAILURES: Final = 1_000

_logger = get_logger(__name__)


class Status(StrEnum):
    """What the sidecar is answered about one event; Dapr's words."""

    SUCCESS = "SUCCESS"
    RETRY = "RETRY"
    DROP = "DROP"


Effect = Callable[[AsyncSession, Sequence[ReceivedEvent]], Awaitable[None]]
"""What a consumer does with events that are not duplicates, in their order, inside the inbox transaction."""

OnFailure = Callable[[str | None, bytes, str], Awaitable[None]]
"""Told of an event that failed by its own fault: its id if it could be read, its bytes as delivered, and why."""


@dataclass(frozen=True)
class _Delivered:
    """An event that could be read, where it stood in the delivery, and its consumer span."""

    place: int
    body: bytes
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
    failures: list[tuple[str | None, bytes, str]] = field(default_factory=list)
    errors: list[tuple[_Delivered, Exception]] = field(default_factory=list)
    held_back: set[str] = field(default_factory=set)
    over: bool = False

    def seconds_for(self, events: int) -> float:
        """Tell how long the next transaction may take, so that the answer is in time."""
        left = self.deadline - asyncio.get_running_loop().time()
        if len(self.answers) == 1:
            return left
        return min(left, _WHOLE_BATCH_TIMEOUT if events == len(self.answers) else _PART_TIMEOUT)


class EventConsumer:
    """Takes task events into a service's database, each exactly once."""

    def __init__(self, database: Database, effect: Effect, on_failure: OnFailure | None = None) -> None:
        """Prepare a consumer.

        Args:
            database: Holds the inbox and the effect.
            effect: Called once for the new events of a delivery.
            on_failure: Called for each event that is answered DROP, or RETRY because of an error of its own. Not for
                an outage of the database: that is nothing an event can help, and there is nowhere to write it.
        """
        self._database, self._effect, self._on_failure = database, effect, on_failure
        self._failed_before: OrderedDict[str, int] = OrderedDict()

    async def consume(self, bodies: Sequence[bytes]) -> list[Status]:
        """Process what was delivered together and give the answer to each; never raises."""
        loop = asyncio.get_running_loop()
        turn = _Round([Status.RETRY] * len(bodies), loop.time() + DELIVERY_TIMEOUT)
        with ExitStack() as spans:
            delivered = self._read(bodies, turn, spans)
            await self._settle(delivered, turn)
            _log_errors(turn)
        await self._report(turn)
        return turn.answers

    def _read(self, bodies: Sequence[bytes], turn: _Round, spans: ExitStack) -> list[_Delivered]:
        delivered = []
        for place, body in enumerate(bodies):
            try:
                event = parse_task_event(body)
            except InvalidEventError as error:
                _logger.warning("event dropped to the dead-letter topic", reason=str(error), size_bytes=len(body))
                turn.answers[place] = Status.DROP
                turn.failures.append((None, body, str(error)))
                continue
            delivered.append(_Delivered(place, body, event, spans.enter_context(_consumer_span(event))))
        return delivered

    async def _settle(self, batch: Sequence[_Delivered], turn: _Round) -> None:
        """Apply a batch; where it fails by the fault of an event, apply its halves, in order."""
        batch = [one for one in batch if one.event.subject not in turn.held_back]
        if not batch or turn.over:
            return
        seconds = turn.seconds_for(len(batch))
        if seconds < _LEAST_TIMEOUT:
            turn.over = True
            return
        with ExitStack() as contexts:
            if len(batch) == 1:
                contexts.enter_context(batch[0].context())
            try:
                async with asyncio.timeout(seconds):
                    received = await self._apply([one.event for one in batch])
            except DatabaseUnavailableError as error:
                turn.over = True
                _logger.warning("events will be delivered again", events=len(batch), reason=error.detail)
                return
            except Exception as error:  # noqa: BLE001  (logged and answered once it is known whose fault it is)
                failure = error
            else:
                self._succeed(batch, received, turn)
                return
        if len(batch) == 1 and isinstance(failure, TimeoutError):
            # A database that is frozen looks like this: no fault of the event, however often it happens.
            _logger.warning("event will be delivered again", event_id=batch[0].event.id, reason="no answer in time")
            return
        if len(batch) == 1:
            self._fail(batch[0], failure, turn)
            return
        half = len(batch) // 2
        _logger.info("a batch is halved", events=len(batch), reason=repr(failure))
        await self._settle(batch[:half], turn)
        await self._settle(batch[half:], turn)

    async def _apply(self, events: Sequence[TaskEvent]) -> list[ReceivedEvent]:
        async with self._database.session() as session:
            received = await apply_events(session, events, self._effect)
            await session.commit()
        return received

    def _succeed(self, batch: Sequence[_Delivered], received: Sequence[ReceivedEvent], turn: _Round) -> None:
        for one, item in zip(batch, received, strict=True):
            turn.answers[one.place] = Status.SUCCESS
            self._failed_before.pop(one.event.id, None)
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

    def _fail(self, one: _Delivered, error: Exception, turn: _Round) -> None:
        """Have an event delivered again, and after enough attempts keep it in the dead-letter topic.

        The attempts are counted here and not by the sidecar, which cannot tell the fault of an event from an
        outage. A restart of this process begins to count anew: an event is rather tried too often.

        What follows it in its task waits too, so that the order holds should a retry help; but not for ever, or
        healthy events would reach the dead-letter topic in its company.
        """
        failed = self._failed_before.pop(one.event.id, 0) + 1
        self._failed_before[one.event.id] = failed
        while len(self._failed_before) > _REMEMBERED_FAILURES:
            self._failed_before.popitem(last=False)
        if failed >= _GIVE_UP_AFTER:
            turn.answers[one.place] = Status.DROP
        if failed < _HOLD_BACK_FAILURES:
            turn.held_back.add(one.event.subject)
        turn.failures.append((one.event.id, one.body, describe_failure(error)))
        turn.errors.append((one, error))

    async def _report(self, turn: _Round) -> None:
        if self._on_failure is None or not turn.failures:
            return
        try:
            async with asyncio.timeout(_REPORT_TIMEOUT):
                for event_id, body, reason in turn.failures:
                    await self._on_failure(event_id, body, reason)
        except Exception:  # the answers stand whether or not the reasons could be kept
            _logger.exception("reasons of failures were not kept", failures=len(turn.failures))


async def apply_events(session: AsyncSession, events: Sequence[TaskEvent], effect: Effect) -> list[ReceivedEvent]:
    """Take events through the inbox to their effect, whoever brings them; the caller commits, and then reports."""
    received = await receive(session, events)
    new = [item for item in received if item.receipt.verdict is not Verdict.DUPLICATE]
    if new:
        await effect(session, new)
    return received


def _log_errors(turn: _Round) -> None:
    """Write the tracebacks when all is done: rendering them takes time that the other events need."""
    for one, error in turn.errors:
        with one.context():
            _logger.error(
                "event could not be processed", event_id=one.event.id, type=one.event.type.value, exc_info=error
            )


def _consumer_span(event: TaskEvent) -> AbstractContextManager[Span]:
    return detached_span(
        f"process {TASKS_TOPIC}",
        traceparent=event.traceparent,
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.system": "kafka",
            "messaging.destination.name": TASKS_TOPIC,
            "messaging.message.id": event.id,
            "cloudevents.event_type": event.type.value,
        },
    )
