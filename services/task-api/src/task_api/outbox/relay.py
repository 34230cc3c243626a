"""The relay: takes committed events from the outbox to Kafka, in order per task, at least once.

Every replica runs one; an advisory lock lets one of them publish at a time. It may die between any two lines:
before the publish nothing happened; after it, the row is still there and is published again with the same
event id, which the consumers' inbox recognises.

A leader may also freeze. PostgreSQL then ends its transaction a little after the longest a publish may take, and a
standby takes over. Should the frozen one go on, what it was publishing may reach Kafka late, after newer versions of
the same tasks: harmless, the consumers know the event id and drop a version older than the one they have.

A backlog is sent two batches at a time: while one is on its way to Kafka, the next is read and set out. They never
share a task, since an event is due only when no older one of its task is in the outbox.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final, assert_never

from opentelemetry.trace import Span, SpanKind
from prometheus_client import Counter, Gauge, Histogram

from chassis.database import Database, DatabaseUnavailableError
from chassis.logging import get_logger
from chassis.metrics import with_series
from chassis.periodic import repeating
from chassis.publisher import Publisher, PublishError, RefusedError
from chassis.tracing import detached_span, exports_spans, joint_span, of_message, traceparent_of
from task_api.outbox.repository import OutboxRepository, Postponed, Unsent
from task_events import EncodedEvent, encode_stored_event
from task_events.topics import TASKS_TOPIC

_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 5.0  # not longer: when Kafka is back, events flow again within this
_CONTENDED_RETRY: Final = 0.05
_OBSERVE_INTERVAL: Final = 1.0
_LONGEST_PASS: Final = 0.5  # what a relay that dies has sent in it is sent again
_GRACE: Final = 2.5  # on top of the publish timeout: closing what hangs takes up to 2 s

_published = with_series(
    Counter("taskwire_outbox_published_total", "Events published, by result", ["result"]), "ok", "refused", "unknown"
)
_publish_duration = Histogram("taskwire_outbox_publish_seconds", "Time of one bulk publish, whatever its result")
_leader = Gauge("taskwire_outbox_relay_leader", "1 while this process is the relay that publishes")
_backlog_size = Gauge("taskwire_outbox_backlog_events", "Events committed and not known to be in Kafka")
_backlog_age = Gauge("taskwire_outbox_backlog_age_seconds", "Age of the oldest of them")
_last_publish = Gauge(
    "taskwire_outbox_last_publish_timestamp_seconds", "When this relay last published events of tasks, Unix time; or 0"
)
_logger = get_logger(__name__)


class Pass(Enum):
    """What one look into the outbox came to."""

    IDLE = auto()
    """Nothing to send."""
    SENT = auto()
    """Something was sent; there may be more."""
    STANDBY = auto()
    """Another relay is at work."""
    FAILED = auto()
    """The sidecar or the database did not answer."""


class Relay:
    """Publishes what is in the outbox until it is stopped."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        *,
        batch_size: int,
        poll_interval: float,
        publish_timeout: float = 5.0,
    ) -> None:
        """Prepare a relay.

        Args:
            database: Holds the outbox.
            publisher: Takes the events.
            batch_size: Events in one bulk publish.
            poll_interval: Seconds between looks when nobody calls `wake`.
            publish_timeout: Seconds after which the publisher gives up.
        """
        self._database, self._publisher = database, publisher
        self._batch_size = self._batch_limit = batch_size
        self._poll_interval = poll_interval
        self._patience = publish_timeout + _GRACE
        self._woken = asyncio.Event()
        self._stopped = asyncio.Event()

    def wake(self) -> None:
        """Look soon: something was committed."""
        self._woken.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run in the background; at the end finish the batch in hand, then stop."""
        task = asyncio.create_task(self._run(), name="outbox-relay")
        try:
            async with repeating("outbox-backlog", _OBSERVE_INTERVAL, self.observe):
                yield
        finally:
            self._stopped.set()
            self.wake()
            await task

    async def observe(self) -> None:
        """Update the gauges of the backlog, which every replica shows: the leader may be busy, frozen or gone.

        Raises:
            DatabaseUnavailableError: Nobody knows what waits; the gauges say so (NaN).
        """
        try:
            async with self._database.session() as session:
                backlog = await OutboxRepository(session).backlog()
        except BaseException:
            _backlog_size.set(math.nan)
            _backlog_age.set(math.nan)
            raise
        age = (datetime.now(UTC) - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        _backlog_size.set(backlog.size)
        _backlog_age.set(max(0.0, age))

    async def relay_once(self) -> Pass:
        """Send one batch, if there is one and no other relay is at work."""
        try:
            async with self._database.session() as session:
                outbox = OutboxRepository(session)
                leading = await outbox.lead(patience=self._patience)
                _leader.set(leading)
                if not leading:
                    return Pass.STANDBY
                result = await self._send_due(outbox)
                await session.commit()
                return result
        except DatabaseUnavailableError as error:
            _leader.set(0)
            _logger.warning("the outbox cannot be read", reason=error.detail)
            return Pass.FAILED

    async def _run(self) -> None:
        while not self._stopped.is_set():
            woken = self._woken.is_set()
            self._woken.clear()
            try:
                result = await self.relay_once()
            except Exception:  # a defect of ours must not end the relay: the events are safe, so try again
                _logger.exception("relay pass failed")
                result = Pass.FAILED
            if not self._stopped.is_set():
                await self._rest(result, woken=woken)
        _leader.set(0)

    async def _rest(self, result: Pass, *, woken: bool) -> None:
        """Wait for the next reason to look; a stop ends every wait."""
        match result:
            case Pass.SENT:
                return
            case Pass.IDLE:
                await self._wait_for_wake(self._poll_interval)
            case Pass.STANDBY if woken:
                # The leader may have looked just before our commit: ask once more, shortly.
                await self._wait_for_wake(_CONTENDED_RETRY)
                self.wake()
            case Pass.STANDBY:
                await self._wait_for_wake(self._poll_interval)
            case Pass.FAILED:
                await self._pause(max(self._publisher.open_for, _retry_delay(0)))
            case _:
                assert_never(result)

    async def _wait_for_wake(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _pause(self, seconds: float) -> None:
        """Wait whatever is committed meanwhile, but not past a stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _send_due(self, outbox: OutboxRepository) -> Pass:
        rows = await outbox.due(self._batch_limit)
        if not rows:
            return Pass.IDLE
        fresh = _never_refused(rows)
        refused_before = [row for row in rows if row.attempts][:1]  # by itself, so it cannot fail others
        if fresh and not await self._send_backlog(outbox, fresh):
            return Pass.FAILED
        if refused_before and not await self._send_backlog(outbox, refused_before) and not fresh:
            return Pass.FAILED
        return Pass.SENT

    async def _send_backlog(self, outbox: OutboxRepository, rows: list[Unsent]) -> bool:
        """Send rows, and if there are many the next ones while these are on their way; False when any failed."""
        well, until = True, time.monotonic() + _LONGEST_PASS
        under_way = [(rows, self._set_out(rows))]
        try:
            while under_way:
                rows, publishing = under_way[0]
                if well and len(rows) == self._batch_size and time.monotonic() < until:
                    in_flight = [row.id for row in rows]
                    if following := _never_refused(await outbox.due(self._batch_size, in_flight=in_flight)):
                        under_way.append((following, self._set_out(following)))
                well = await self._settle(outbox, rows, publishing) and well
                del under_way[0]
        finally:  # whatever happened to us, what was set out ends before the next pass may send it again
            await asyncio.gather(*(publishing for _, publishing in under_way), return_exceptions=True)
        if well:
            self._batch_limit = min(self._batch_size, self._batch_limit * 2)
        return well

    def _set_out(self, rows: Sequence[Unsent]) -> asyncio.Task[None]:
        return asyncio.create_task(self._publish(rows), name="outbox-publish")

    async def _settle(self, outbox: OutboxRepository, rows: Sequence[Unsent], publishing: asyncio.Task[None]) -> bool:
        """Wait for the answer and remove what is in Kafka; True when that went well."""
        try:
            await publishing
        except RefusedError as error:
            _published.labels("refused").inc(len(rows))
            _logger.warning("events were refused", events=len(rows), reason=str(error))
            await self._narrow_down(outbox, rows, str(error))
            return False
        except PublishError as error:
            _published.labels("unknown").inc(len(rows))
            _logger.warning("events stay in the outbox", events=len(rows), reason=str(error))
            return False
        _published.labels("ok").inc(len(rows))
        if any(row.topic == TASKS_TOPIC for row in rows):
            _last_publish.set_to_current_time()
        await outbox.remove([row.id for row in rows])
        return True

    async def _narrow_down(self, outbox: OutboxRepository, rows: Sequence[Unsent], reason: str) -> None:
        """Halve the batch until the refused event is alone; then it waits, and its task with it, but no other."""
        if len(rows) > 1:
            self._batch_limit = len(rows) // 2
            return
        (row,) = rows
        await outbox.postpone(Postponed(row.id, _retry_delay(row.attempts), reason))

    async def _publish(self, rows: Sequence[Unsent]) -> None:
        """Publish, with a producer span for each event in the trace of the request that caused it."""
        if not exports_spans():  # where nobody would see them, they cost more than all the rest
            await self._send([_event_of(row, row.traceparent) for row in rows])
            return
        with ExitStack() as opened:
            spans = [opened.enter_context(_producer_span(row)) for row in rows]
            opened.enter_context(joint_span("relay outbox", spans))
            await self._send([_event_of(row, traceparent_of(span)) for row, span in zip(rows, spans, strict=True)])

    async def _send(self, events: Sequence[EncodedEvent]) -> None:
        with _publish_duration.time():
            await self._publisher.publish(events)


def _producer_span(row: Unsent) -> AbstractContextManager[Span]:
    return detached_span(
        f"publish {row.topic}",
        traceparent=row.traceparent,
        kind=SpanKind.PRODUCER,
        attributes=of_message("publish", topic=row.topic, event_id=str(row.id), event_type=row.type),
    )


def _never_refused(rows: Sequence[Unsent]) -> list[Unsent]:
    return [row for row in rows if not row.attempts]


def _event_of(row: Unsent, traceparent: str | None) -> EncodedEvent:
    # The data was checked when it was written: reading and writing it again took a quarter of the relay's time.
    return encode_stored_event(
        event_id=str(row.id),
        event_type=row.type,
        subject=row.key,
        time=row.occurred_at,
        traceparent=traceparent,
        data=row.payload,
        topic=row.topic,
    )


def _retry_delay(attempts: int) -> float:
    return min(_LAST_RETRY, _FIRST_RETRY * 2.0 ** min(attempts, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)
