"""The consumer's door: how task events come in from the sidecar, one by one or in bulk.

The handlers read the CloudEvents themselves and always answer SUCCESS, RETRY or DROP in a body, because Dapr
retries FastAPI's own 422 and takes a 404 for DROP. DROP sends the message to the dead-letter topic.

In bulk, the subscription asks for raw payloads: each entry is the Kafka record's value, in base64. Otherwise daprd
would decode and encode each event anew, which keeps integers up to 2^53 only, and what is not JSON would never come.
"""

import base64
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse, Response

from chassis.consumer import Effect, EventConsumer, OnFailure, Status
from chassis.database import Database
from chassis.errors import ForbiddenError
from chassis.limits import MAX_EVENTS_PER_DELIVERY
from chassis.logging import get_logger
from task_events.topics import PUBSUB_NAME, TASKS_TOPIC

TASKS_ROUTE: Final = "/events/tasks"
BULK_TASKS_ROUTE: Final = "/events/tasks/bulk"
"""A path of its own: an answer to one form would mean something else, and nothing good, in the other."""
APP_TOKEN_HEADER: Final = "dapr-api-token"  # noqa: S105 (a header name)

Handler = Callable[[Request], Awaitable[Response]]

_deliveries = Counter("taskwire_event_deliveries_total", "Events delivered by the sidecar, by answer", ["status"])
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
    bulk: BulkSubscribe | None = None,
    on_failure: OnFailure | None = None,
) -> BulkDaprApp:
    """Subscribe `app` to the `tasks` topic through Dapr.

    Both routes are there whichever is announced, so a sidecar that has not heard of a change is still served.

    Args:
        app: Gets `/dapr/subscribe` and the event routes.
        database: Holds the inbox and the effect.
        dead_letter_topic: Where Dapr puts what this consumer cannot process.
        app_api_token: What daprd must send; everybody else is refused.
        effect: Called once for each event.
        bulk: Have events delivered in batches, each one transaction.
        on_failure: Told of each event that failed by its own fault.

    Returns:
        What further subscriptions of this application are added to: daprd asks for all of them at once.
    """
    consumer = EventConsumer(database, effect, on_failure)

    async def on_task_event(request: Request) -> Response:
        refuse_all_but_the_sidecar(request, app_api_token)
        (status,) = await consumer.consume([await request.body()])
        _deliveries.labels(status.value).inc()
        return JSONResponse({"status": status.value})

    async def on_task_events(request: Request) -> Response:
        refuse_all_but_the_sidecar(request, app_api_token)
        return JSONResponse({"statuses": await _consume_in_bulk(consumer, await request.body())})

    dapr_app = BulkDaprApp(app, router_tags=["dapr"])
    there = {"pubsub": PUBSUB_NAME, "topic": TASKS_TOPIC, "dead_letter_topic": dead_letter_topic}
    if bulk is None:
        dapr_app.subscribe(route=TASKS_ROUTE, metadata={}, **there)(on_task_event)
        app.add_api_route(BULK_TASKS_ROUTE, on_task_events, methods=["POST"], tags=["dapr"])
    else:
        dapr_app.subscribe_in_bulk(on_task_events, route=BULK_TASKS_ROUTE, bulk=bulk, **there)
        app.add_api_route(TASKS_ROUTE, on_task_event, methods=["POST"], tags=["dapr"])
    return dapr_app


def refuse_all_but_the_sidecar(request: Request, app_api_token: str) -> None:
    """Let nobody deliver events but who has the token that daprd was given.

    Raises:
        ForbiddenError: It is not that one.
    """
    given = request.headers.get(APP_TOKEN_HEADER, "")
    if not hmac.compare_digest(given.encode(), app_api_token.encode()):
        raise ForbiddenError("Only the Dapr sidecar may deliver events.")


async def _consume_in_bulk(consumer: EventConsumer, body: bytes) -> list[dict[str, str]]:
    """Give Dapr's `statuses`; an entry without one is delivered again."""
    try:
        entries = _BulkDelivery.model_validate_json(body).entries
    except ValidationError:
        _logger.error("a bulk delivery cannot be read", size_bytes=len(body))  # noqa: TRY400  (its text quotes data)
        return []
    answers = await consumer.consume([_record(entry) for entry in entries])
    _batch_size.observe(len(entries))
    statuses = []
    for place, (entry, answer) in enumerate(zip(entries, answers, strict=True)):
        status = _safe_in_bulk(answer, entry, place)
        _deliveries.labels(status.value).inc()
        statuses.append({"entryId": entry.entry_id, "status": status.value})
    return statuses


def _record(entry: _BulkEntry) -> bytes:
    try:
        return base64.b64decode(entry.event, validate=True)
    except ValueError:
        return entry.event.encode()  # no event of ours either way; the reader says so


def _safe_in_bulk(answer: Status, entry: _BulkEntry, place: int) -> Status:
    """Say DROP only where daprd 1.18 understands it.

    It looks up the message to drop by its entry id, which is its place in the batch as it came from Kafka, in the
    list of those it has just delivered. After a retry that list is shorter: the wrong message would go to the
    dead-letter topic, or daprd would crash on an index out of range. RETRY ends there too, only later.
    """
    return Status.RETRY if answer is Status.DROP and entry.entry_id != str(place) else answer
