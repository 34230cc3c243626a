"""The consumer's door: how a task event comes in from the sidecar.

The handler parses the CloudEvent itself and always answers SUCCESS, RETRY or DROP in a body, because Dapr
retries FastAPI's own 422 and takes a 404 for DROP. DROP sends the message to the dead-letter topic.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Final

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request
from opentelemetry.trace import SpanKind
from prometheus_client import Counter
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import JSONResponse, Response

from chassis.correlation import correlated, new_id
from chassis.database import Database, DatabaseUnavailableError
from chassis.dead_letters.reasons import describe_failure
from chassis.errors import ForbiddenError
from chassis.inbox import Receipt, Verdict, receive
from chassis.logging import get_logger
from chassis.tracing import continued_span
from task_events import InvalidEventError, TaskEvent, parse_task_event
from task_events.topics import PUBSUB_NAME, TASKS_TOPIC

TASKS_ROUTE: Final = "/events/tasks"
_DELIVERY_TIMEOUT: Final = 3.0
"""Seconds for one event: below the 4 s after which daprd gives up on a delivery (`components/resiliency.yaml`)."""

APP_TOKEN_HEADER: Final = "dapr-api-token"  # noqa: S105 (a header name)

Effect = Callable[[AsyncSession, TaskEvent, Receipt], Awaitable[None]]
"""What a consumer does with an event that is not a duplicate, inside the inbox transaction."""

OnFailure = Callable[[str | None, bytes, str], Awaitable[None]]
"""Told of an event that failed or was dropped: its id when it could be read, its bytes, the reason. Never raises."""

_deliveries = Counter("taskwire_event_deliveries_total", "Deliveries from the sidecar, by answer", ["status"])
_logger = get_logger(__name__)


async def _tell_nobody(event_id: str | None, body: bytes, reason: str) -> None:
    """Be the `on_failure` of a consumer that has none."""


def subscribe_to_tasks(
    app: FastAPI,
    *,
    database: Database,
    dead_letter_topic: str,
    app_api_token: str,
    effect: Effect,
    on_failure: OnFailure = _tell_nobody,
) -> DaprApp:
    """Subscribe `app` to the `tasks` topic through Dapr.

    Args:
        app: Gets `/dapr/subscribe` and the event route.
        database: Holds the inbox and the effect.
        dead_letter_topic: Where Dapr puts what this consumer cannot process.
        app_api_token: What daprd must send; everybody else is refused.
        effect: Called once for each event.
        on_failure: Called before each RETRY that no outage explains, and before each DROP.

    Returns:
        What further subscriptions of this application are added to: daprd asks for all of them at once.
    """

    async def on_task_event(request: Request) -> Response:
        if not is_sidecar(request, app_api_token):
            raise ForbiddenError("Only the Dapr sidecar may deliver events.")
        status = await _consume(await request.body(), database, effect, on_failure)
        _deliveries.labels(status).inc()
        return JSONResponse({"status": status})

    dapr_app = DaprApp(app, router_tags=["dapr"])
    dapr_app.subscribe(
        pubsub=PUBSUB_NAME,
        topic=TASKS_TOPIC,
        route=TASKS_ROUTE,
        dead_letter_topic=dead_letter_topic,
        metadata={},
    )(on_task_event)
    return dapr_app


def is_sidecar(request: Request, app_api_token: str) -> bool:
    """Tell whether a request carries the token that daprd was given."""
    given = request.headers.get(APP_TOKEN_HEADER, "")
    return hmac.compare_digest(given.encode(), app_api_token.encode())


async def _consume(body: bytes, database: Database, effect: Effect, on_failure: OnFailure) -> str:
    try:
        event = parse_task_event(body)
    except InvalidEventError as error:
        _logger.warning("event dropped to the dead-letter topic", reason=str(error), size_bytes=len(body))
        await on_failure(None, body, str(error))
        return "DROP"
    attributes = {
        "messaging.system": "kafka",
        "messaging.destination.name": TASKS_TOPIC,
        "messaging.message.id": event.id,
        "cloudevents.event_type": event.type.value,
    }
    with (
        correlated(corr_id=event.data.corr_id, request_id=new_id()),
        continued_span(
            f"process {TASKS_TOPIC}",
            traceparent=event.traceparent,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        ) as span,
    ):
        try:
            async with asyncio.timeout(_DELIVERY_TIMEOUT):
                receipt = await _apply(event, database, effect)
        except (DatabaseUnavailableError, TimeoutError) as error:
            _logger.warning("event will be delivered again", event_id=event.id, reason=repr(error))
            if isinstance(error, TimeoutError):
                await on_failure(event.id, body, describe_failure(error))
            return "RETRY"
        except Exception as error:  # a defect of ours: the bounded retries, then the dead-letter topic, keep the event
            _logger.exception("event could not be processed", event_id=event.id, type=event.type.value)
            await on_failure(event.id, body, describe_failure(error))
            return "RETRY"
        span.set_attribute("taskwire.inbox.verdict", receipt.verdict.value)
        _logger.info(
            "event processed",
            event_id=event.id,
            type=event.type.value,
            task_id=event.data.task.id,
            version=event.data.task.version,
            verdict=receipt.verdict.value,
        )
    return "SUCCESS"


async def _apply(event: TaskEvent, database: Database, effect: Effect) -> Receipt:
    async with database.session() as session:
        receipt = await apply_event(session, event, effect)
        await session.commit()
    return receipt


async def apply_event(session: AsyncSession, event: TaskEvent, effect: Effect) -> Receipt:
    """Take an event through the inbox to its effect, whoever brings it; the caller commits."""
    receipt = await receive(session, event)
    if receipt.verdict is not Verdict.DUPLICATE:
        await effect(session, event, receipt)
    return receipt
