"""Where dead letters come in: from the consumer itself, and from its dead-letter topic, the second line.

There the sidecar puts what it gives up on without asking; the consumer subscribes it and stores what arrives. The
handler answers SUCCESS or RETRY and nothing else: behind a dead-letter topic there is no other one.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request
from prometheus_client import Gauge
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import JSONResponse, Response

from chassis.consumer import Effect, KeepFailed, Record, apply_events
from chassis.database import Database, DatabaseUnavailableError
from chassis.dead_letters import service
from chassis.dead_letters.envelope import origin_of, original_body
from chassis.dead_letters.models import Status as LetterStatus
from chassis.dead_letters.repository import DeadLetterRepository, Origin
from chassis.erased_subjects import ErasedSubjects
from chassis.inbox import ReceivedEvent
from chassis.logging import get_logger
from chassis.periodic import repeating
from chassis.sidecar import Status, refuse_all_but_the_sidecar
from task_events import TaskEvent
from task_events.topics import PUBSUB_NAME, TASKS_TOPIC

DEAD_LETTERS_ROUTE: Final = "/events/dead-letters"
_STORE_TIMEOUT: Final = 3.0
"""Seconds for one letter: below the 4 s after which daprd gives up on a delivery (`components/resiliency.yaml`)."""

_COUNT_EVERY: Final = 5.0
_open = Gauge("taskwire_dead_letters_open", "Dead letters that nobody has redriven or discarded yet")
_logger = get_logger(__name__)


def subscribe_to_dead_letters(
    app: FastAPI,
    dapr_app: DaprApp,
    *,
    database: Database,
    topic: str,
    app_api_token: str,
    effect: Effect,
    erased: ErasedSubjects,
) -> None:
    """Have a consumer store its dead letters, and its API redrive them.

    Args:
        app: Gets the event route; `chassis.dead_letters.routes.router` must be mounted in it.
        dapr_app: What `subscribe_to_tasks` returned.
        database: Holds the letters beside the inbox.
        topic: The consumer's own dead-letter topic.
        app_api_token: What daprd must send; everybody else is refused.
        effect: The consumer's, the same that its deliveries have.
        erased: Of whom nothing is kept.
    """

    async def apply(session: AsyncSession, event: TaskEvent) -> ReceivedEvent:
        (received,) = await apply_events(session, [event], effect)
        return received

    app.state.apply_event = apply

    async def on_dead_letter(request: Request) -> Response:
        refuse_all_but_the_sidecar(request, app_api_token)
        return JSONResponse({"status": await _store(request, database, topic, erased)})

    # Raw, because daprd would drop what is not a CloudEvent before it gets here, and that is what comes here.
    metadata = {"rawPayload": "true"}
    dapr_app.subscribe(pubsub=PUBSUB_NAME, topic=topic, route=DEAD_LETTERS_ROUTE, metadata=metadata)(on_dead_letter)


async def _store(request: Request, database: Database, topic: str, erased: ErasedSubjects) -> Status:
    body = original_body(await request.body())
    origin = origin_of(request.headers, topic=topic)
    try:
        async with asyncio.timeout(_STORE_TIMEOUT), database.session() as session:
            letter_id = await service.store(session, origin, body, erased)
    except (DatabaseUnavailableError, TimeoutError) as error:
        _logger.warning("dead letter will be delivered again", reason=repr(error))
        return Status.RETRY
    except Exception:  # a defect of ours: the letter stays in Kafka, at the head of its topic, until it is repaired
        _logger.exception("dead letter could not be stored", size_bytes=len(body))
        return Status.RETRY
    _log_stored(letter_id, origin, body)
    return Status.SUCCESS


def keeping_failed(database: Database, erased: ErasedSubjects) -> KeepFailed:
    """Make the `keep_failed` of a consumer, which has it store its dead letters in its own database."""

    async def keep(record: Record, event_id: str | None, error: Exception) -> bool:
        origin = origin_of(record.metadata, topic=TASKS_TOPIC)
        async with database.session() as session:
            kept = await service.settle_failure(session, origin, record.body, event_id, error, erased)
        if kept.settled:
            _log_stored(kept.letter_id, origin, record.body)
        return kept.settled

    return keep


def _log_stored(letter_id: int | None, origin: Origin, body: bytes) -> None:
    where = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
    if letter_id is None:
        _logger.info("dead letter was stored before", **where)
    else:
        _logger.error("dead letter stored", dead_letter=letter_id, size_bytes=len(body), **where)


def counting_open_letters(database: Database) -> AbstractAsyncContextManager[None]:
    """Keep the gauge of open letters while the application runs, in each replica, whoever closes them."""
    return repeating("count-open-dead-letters", _COUNT_EVERY, lambda: _count_open(database))


async def _count_open(database: Database) -> None:
    async with database.session() as session:
        _open.set(await DeadLetterRepository(session).count(status=LetterStatus.OPEN))
