"""The door for events about accounts, the same in every service.

The answer is SUCCESS or RETRY. What cannot be read is answered SUCCESS and logged, and kept nowhere: it may hold
somebody's id, and whoever waits for what it said asks again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request
from prometheus_client import Counter
from starlette.responses import JSONResponse, Response

from chassis.correlation import correlated, new_id
from chassis.database import DatabaseUnavailableError
from chassis.dead_letters.envelope import original_body
from chassis.logging import get_logger
from chassis.metrics import with_series
from chassis.publisher import PublishError
from chassis.sidecar import Status, refuse_all_but_the_sidecar
from task_events import ErasureConfirmed, ErasureRequested, InvalidEventError, parse_account_event
from task_events.topics import ACCOUNTS_TOPIC, PUBSUB_NAME

ACCOUNTS_ROUTE: Final = "/events/accounts"
HANDLING_TIMEOUT: Final = 3.5
"""Seconds for one event: below the 4 s after which daprd gives up on a delivery (`components/resiliency.yaml`)."""

AccountEvent = ErasureRequested | ErasureConfirmed
Handle = Callable[[AccountEvent], Awaitable[None]]
"""Does what an event asks for, or nothing; what it raises has the event delivered again."""

_delivered = with_series(
    Counter("taskwire_account_events_total", "Events of accounts, by what became of them", ["outcome"]),
    *("handled", "again", "unreadable"),
)
_logger = get_logger(__name__)


def subscribe_to_accounts(
    dapr_app: DaprApp, *, app_api_token: str, handle: Handle, topic: str = ACCOUNTS_TOPIC
) -> None:
    """Subscribe to one of the topics of accounts through Dapr.

    Args:
        dapr_app: Holds the subscriptions of this application.
        app_api_token: What daprd must send; everybody else is refused.
        handle: Is given each event that can be read, one at a time.
        topic: That of requests, or that of confirmations.
    """

    async def on_account_event(request: Request) -> Response:
        refuse_all_but_the_sidecar(request, app_api_token)
        status = await _settle(original_body(await request.body()), handle)
        return JSONResponse({"status": status.value})

    # Raw for the same reasons as the events of tasks (chassis/subscriptions.py).
    metadata = {"rawPayload": "true"}
    dapr_app.subscribe(pubsub=PUBSUB_NAME, topic=topic, route=ACCOUNTS_ROUTE, metadata=metadata)(on_account_event)


def publishing_dapr_app(app: FastAPI) -> DaprApp:
    """Give the subscriptions of an application that takes no events of tasks."""
    return DaprApp(app, router_tags=["dapr"])


async def _settle(body: bytes, handle: Handle) -> Status:
    try:
        event = parse_account_event(body)
    except InvalidEventError as error:
        _delivered.labels("unreadable").inc()
        _logger.error("an account event cannot be read", reason=str(error), size_bytes=len(body))  # noqa: TRY400
        return Status.SUCCESS
    with correlated(corr_id=event.data.corr_id, request_id=new_id()):
        try:
            async with asyncio.timeout(HANDLING_TIMEOUT):
                await handle(event)
        except (DatabaseUnavailableError, PublishError, TimeoutError) as error:
            _logger.warning("account event will be delivered again", event_id=event.id, reason=type(error).__name__)
        except Exception:  # a defect of ours: it waits at the head of its partition until that is repaired
            _logger.exception("account event could not be handled", event_id=event.id)
        else:
            _delivered.labels("handled").inc()
            return Status.SUCCESS
    _delivered.labels("again").inc()
    return Status.RETRY
