"""Makes a service of Taskwire a worse one: Python runs this at its start, where the suite puts it on PYTHONPATH.

Each function here is one well-known wrong design, as small as it can be. Nothing of it is in the product.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlmodel.ext.asyncio.session import AsyncSession

    from chassis.inbox import ReceivedEvent
    from task_events import TaskEvent, TaskEventData, TaskEventType


def publish_after_the_commit() -> None:
    """No outbox: the change is committed, then its event is published, once."""
    from chassis.correlation import new_id
    from task_api.outbox.relay import Relay
    from task_api.outbox.service import Outbox
    from task_events import EncodedEvent, TaskEvent

    pending: dict[int, list[EncodedEvent]] = {}
    publishing = set()

    async def add_many(
        self: Outbox, session: "AsyncSession", events: "Sequence[tuple[TaskEventType, TaskEventData]]"
    ) -> None:
        for event_type, data in events:
            event = TaskEvent(id=new_id(), type=event_type, subject=str(data.task.id), time=data.occurred_at, data=data)
            pending.setdefault(id(asyncio.current_task()), []).append(event.encode())

    def committed(self: Outbox) -> None:
        events = pending.pop(id(asyncio.current_task()), [])
        relay = self._relay
        assert isinstance(relay, Relay)
        task = asyncio.create_task(relay._publisher.publish(events))
        publishing.add(task)
        task.add_done_callback(publishing.discard)

    setattr(Outbox, "add_many", add_many)  # noqa: B010
    setattr(Outbox, "committed", committed)  # noqa: B010


def send_all_of_a_task_at_once() -> None:
    """The relay takes the oldest events, whether or not an older one of the same task is still on its way."""
    from sqlalchemy import text

    from task_api.outbox import repository

    due = str(repository._DUE)
    start = due.index("AND NOT EXISTS")
    end = due.index("ORDER BY", start)
    vars(repository)["_DUE"] = text(due[:start] + due[end:])


def believe_every_delivery() -> None:
    """No inbox: whatever is delivered takes effect."""
    from chassis import consumer
    from chassis.inbox import Receipt, ReceivedEvent, Verdict

    async def receive(session: "AsyncSession", events: "Sequence[TaskEvent]") -> "list[ReceivedEvent]":
        return [ReceivedEvent(event, Receipt(Verdict.FRESH)) for event in events]

    vars(consumer)["receive"] = receive


def retry_for_ever() -> None:
    """The consumer never gives up an event that it cannot process."""
    from chassis.consumer import EventConsumer

    async def keep(self: EventConsumer, *_: object) -> bool:
        return False

    setattr(EventConsumer, "_keep", keep)  # noqa: B010


def answer_before_the_work_is_done() -> None:
    """The consumer answers SUCCESS at once and processes afterwards."""
    from chassis.consumer import EventConsumer, Record
    from chassis.sidecar import Status

    consume, working = EventConsumer.consume, set()

    async def consume_later(self: EventConsumer, records: Sequence[Record]) -> list[Status]:
        task = asyncio.create_task(consume(self, records))
        working.add(task)
        task.add_done_callback(working.discard)
        return [Status.SUCCESS] * len(records)

    setattr(EventConsumer, "consume", consume_later)  # noqa: B010


_WRONG: Final[dict[tuple[str, str], Callable[[], None]]] = {
    ("commit-then-publish", "task_api"): publish_after_the_commit,
    ("no-one-per-task", "task_api"): send_all_of_a_task_at_once,
    ("no-inbox", "audit_worker"): believe_every_delivery,
    ("no-inbox", "notifier"): believe_every_delivery,
    ("unbounded-retry", "audit_worker"): retry_for_ever,
    ("unbounded-retry", "notifier"): retry_for_ever,
    ("answer-first", "audit_worker"): answer_before_the_work_is_done,
    ("answer-first", "notifier"): answer_before_the_work_is_done,
}

if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[3:4] == ["serve"]:
    _WRONG.get((os.environ.get("CHAOS_SABOTAGE", ""), sys.orig_argv[2]), lambda: None)()
