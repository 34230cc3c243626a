"""The consumer's door: how task events come in from the sidecar, in bulk.

The handler reads the CloudEvents itself and always answers SUCCESS or RETRY for each in a body, because Dapr retries
FastAPI's own 422 and takes a 404 for the success of a whole batch.

The subscription asks for raw payloads: each entry is the Kafka record's value, in base64. Otherwise daprd would decode
and encode each event anew, which keeps integers up to 2^53 only, and what is not JSON would never come.
"""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse, Response

from chassis.consumer import Effect, EventConsumer, KeepFailed, Record
from chassis.database import Database
from chassis.limits import MAX_EVENTS_PER_DELIVERY
from chassis.logging import get_logger
from chassis.metrics import with_series
from chassis.sidecar import Status, refuse_all_but_the_sidecar
from task_events.topics import PUBSUB_NAME, TASKS_TOPIC

TASKS_ROUTE: Final = "/events/tasks/bulk"
"""Says `bulk`: were a subscription for single events to meet this handler, its answer would mean success."""

Handler = Callable[[Request], Awaitable[Response]]

_deliveries = with_series(
    Counter("taskwire_event_deliveries_total", "Events delivered by the sidecar, by answer", ["status"]), *Status
)
_batch_size = Histogram(
    "taskwire_event_batch_size", "Events in one bulk delivery", buckets=(1, 2, 5, 10, 20, 50, MAX_EVENTS_PER_DELIVERY)
)
_logger = get_logger(__name__)


@dataclass(frozen=True)
class BulkSubscribe:
    """How daprd gathers events before it delivers them.

    Attributes:
        max_messages: A batch is delivered when it has so many events …
        max_await_ms: … or at the next tick of a clock with this period, so an event waits half of it on average.
    """

    max_messages: int = MAX_EVENTS_PER_DELIVERY
    max_await_ms: int = 10


class _BulkEntry(BaseModel):
    entry_id: Annotated[str, Field(alias="entryId")]
    event: str
    metadata: dict[str, str] | None = None

    def record(self) -> Record:
        """Give the record as it is in Kafka."""
        try:
            body = base64.b64decode(self.event, validate=True)
        except ValueError:
            body = self.event.encode()  # no event of ours either way; the reader says so
        return Record(body, self.metadata or {})


class _BulkDelivery(BaseModel):
    """The part of Dapr's bulk envelope that matters here."""

    entries: list[_BulkEntry]


class BulkDaprApp(DaprApp):
    """Dapr's FastAPI extension, and the one thing it cannot express: bulk subscriptions."""

    def subscribe_in_bulk(
        self, handler: Handler, *, pubsub: str, topic: str, route: str, dead_letter_topic: str, bulk: BulkSubscribe
    ) -> None:
        """Have batches of a topic's records, as they are, delivered to a handler."""
        self.subscribe(
            pubsub=pubsub,
            topic=topic,
            route=route,
            dead_letter_topic=dead_letter_topic,
            metadata={"rawPayload": "true"},
        )(handler)
        self._subscriptions[-1]["bulkSubscribe"] = {
            "enabled": True,
            "maxMessagesCount": bulk.max_messages,
            "maxAwaitDurationMs": bulk.max_await_ms,
        }


def subscribe_to_tasks(
    app: FastAPI,
    *,
    database: Database,
    dead_letter_topic: str,
    app_api_token: str,
    effect: Effect,
    keep_failed: KeepFailed,
    bulk: BulkSubscribe,
) -> BulkDaprApp:
    """Subscribe `app` to the `tasks` topic through Dapr.

    Args:
        app: Gets `/dapr/subscribe` and the event route.
        database: Holds the inbox and the effect.
        dead_letter_topic: Where Dapr puts what it cannot deliver.
        app_api_token: What daprd must send; everybody else is refused.
        effect: Called once for the new events of a batch, in its transaction.
        keep_failed: Called for each event that failed by its own fault.
        bulk: How events are gathered.

    Returns:
        What further subscriptions of this application are added to: daprd asks for all of them at once.
    """
    consumer = EventConsumer(database, effect, keep_failed)

    async def on_task_events(request: Request) -> Response:
        refuse_all_but_the_sidecar(request, app_api_token)
        return JSONResponse({"statuses": await _consume(consumer, await request.body())})

    dapr_app = BulkDaprApp(app, router_tags=["dapr"])
    dapr_app.subscribe_in_bulk(
        on_task_events,
        pubsub=PUBSUB_NAME,
        topic=TASKS_TOPIC,
        route=TASKS_ROUTE,
        dead_letter_topic=dead_letter_topic,
        bulk=bulk,
    )
    return dapr_app


async def _consume(consumer: EventConsumer, body: bytes) -> list[dict[str, str]]:
    """Give Dapr's `statuses`; an entry without one is delivered again.

    By its entry id, never by its place: after a retry daprd delivers what is left, under the ids it had before.
    """
    try:
        entries = _BulkDelivery.model_validate_json(body).entries
    except ValidationError:
        _logger.error("a bulk delivery cannot be read", size_bytes=len(body))  # noqa: TRY400  (its text quotes data)
        return []
    answers = await consumer.consume([entry.record() for entry in entries])
    _batch_size.observe(len(entries))
    for answer in answers:
        _deliveries.labels(answer.value).inc()
    return [{"entryId": entry.entry_id, "status": answer.value} for entry, answer in zip(entries, answers, strict=True)]
