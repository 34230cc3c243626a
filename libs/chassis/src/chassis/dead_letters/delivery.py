"""Where dead letters come in: the consumer subscribes its own dead-letter topic and stores what arrives.

The handler answers SUCCESS or RETRY and nothing else: behind a dead-letter topic there is no other one.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request
from prometheus_client import Gauge
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import JSONResponse, Response

from chassis.consumer import Effect, OnFailure, apply_events
from chassis.database import Database, DatabaseUnavailableError
from chassis.dead_letters import service
from chassis.dead_letters.envelope import origin_of, original_body
from chassis.dead_letters.models import Status
from chassis.dead_letters.reasons import storable
from chassis.dead_letters.repository import DeadLetterRepository
from chassis.inbox import ReceivedEvent
from chassis.logging import get_logger
from chassis.periodic import repeating
from chassis.subscriptions import refuse_all_but_the_sidecar
from task_events import TaskEvent
from task_events.topics import PUBSUB_NAME

DEAD_LETTERS_ROUTE: Final = "/events/dead-letters"
_STORE_TIMEOUT: Final = 3.0
"""Seconds for one letter: below the 4 s after which daprd gives up on a delivery (`components/resiliency.yaml`)."""

_NOTE_TIMEOUT: Final = 0.5
"""Seconds for noting a failure: it comes after the up to 3 s of the handler that failed, within the same 4 s."""

_COUNT_EVERY: Final = 5.0
_open = Gauge("taskwire_dead_letters_open", "Dead letters that nobody has redriven or discarded yet")
_logger = get_logger(__name__)


def subscribe_to_dead_letters(
    app: FastAPI, dapr_app: DaprApp, *, database: Database, topic: str, app_api_token: str, effect: Effect
) -> None:
    """Have a consumer store its dead letters, and its API redrive them.

    Args:
        app: Gets the event route; `chassis.dead_letters.routes.router` must be mounted in it.
        dapr_app: What `subscribe_to_tasks` returned.
        database: Holds the letters beside the inbox.
        topic: The consumer's own dead-letter topic.
        app_api_token: What daprd must send; everybody else is refused.
        effect: The consumer's, the same that its deliveries have.
    """

    async def apply(session: AsyncSession, event: TaskEvent) -> ReceivedEvent:
        (received,) = await apply_events(session, [event], effect)
        return received

    app.state.apply_event = apply

    async def on_dead_letter(request: Request) -> Response:
        refuse_all_but_the_sidecar(request, app_api_token)
        return JSONResponse({"status": await _store(request, database, topic)})

    # Raw, because daprd would drop what is not a CloudEvent before it gets here, and that is what comes here.
    metadata = {"rawPayload": "true"}
    dapr_app.subscribe(pubsub=PUBSUB_NAME, topic=topic, route=DEAD_LETTERS_ROUTE, metadata=metadata)(on_dead_letter)


async def _store(request: Request, database: Database, topic: str) -> str:
    body = original_body(await request.body())
    origin = origin_of(request.headers, topic=topic)
    try:
        async with asyncio.timeout(_STORE_TIMEOUT), database.session() as session:
            letter_id = await service.store(session, origin, body)
    except (DatabaseUnavailableError, TimeoutError) as error:
        _logger.warning("dead letter will be delivered again", reason=repr(error))
        return "RETRY"
    except Exception:  # a defect of ours: the letter stays in Kafka, at the head of its topic, until it is repaired
        _logger.exception("dead letter could not be stored", size_bytes=len(body))
        return "RETRY"
    where = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
    if letter_id is None:
        _logger.info("dead letter was stored before", **where)
    else:
        _logger.error("dead letter stored", dead_letter=letter_id, size_bytes=len(body), **where)
    return "SUCCESS"


def failure_notes(database: Database) -> OnFailure:
    """Make the `on_failure` of a consumer: keeps the reason, which Dapr does not carry, for the dead letter.

    What cannot be read needs no note: its reason can be found in it again. A database that is down needs none
    either, and would not take it.
    """

    async def note(event_id: str | None, _: bytes, reason: str) -> None:
        if event_id is None:
            return
        try:
            async with asyncio.timeout(_NOTE_TIMEOUT), database.session() as session:
                await service.note_failure(session, storable(event_id), storable(reason))
        except Exception as error:  # noqa: BLE001  (a note that is missing must not change the handler's answer)
            _logger.warning("reason of a failure could not be noted", event_id=event_id, error=repr(error))

    return note


def counting_open_letters(database: Database) -> AbstractAsyncContextManager[None]:
    """Keep the gauge of open letters while the application runs, in each replica, whoever closes them."""
    return repeating("count-open-dead-letters", _COUNT_EVERY, lambda: _count_open(database))


async def _count_open(database: Database) -> None:
    async with database.session() as session:
        _open.set(await DeadLetterRepository(session).count(status=Status.OPEN))
