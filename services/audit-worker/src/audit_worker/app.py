"""Puts audit-worker together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from audit_worker.gaps.routes import router as gaps_router
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.routes import router as trail_router
from audit_worker.trail.service import Recorder, TrailData
from chassis.accounts import subscribe_to_accounts
from chassis.dead_letters.delivery import counting_open_letters, keeping_failed, subscribe_to_dead_letters
from chassis.dead_letters.routes import router as dead_letters_router
from chassis.erased_subjects import ErasedSubjects
from chassis.erasure import Erasure, confirming_publisher
from chassis.gaps import observing_gaps
from chassis.identity.introspection import taking_api_keys
from chassis.service import create_service
from chassis.subscriptions import BulkSubscribe, subscribe_to_tasks
from task_events.topics import AUDIT_DEAD_LETTER_TOPIC


def create_app(settings: AuditWorkerSettings) -> FastAPI:
    """Make the application: the API of the trail, and the door through which events come in."""
    erased, publisher = ErasedSubjects(settings.erasure_key), confirming_publisher(settings)
    record = Recorder(erased).record

    @asynccontextmanager
    async def background(app: FastAPI) -> AsyncIterator[None]:
        database = app.state.database
        try:
            async with observing_gaps(database), counting_open_letters(database), taking_api_keys(app, settings):
                yield
        finally:
            await publisher.close()

    app = create_service(
        settings,
        package="audit_worker",
        api_version="1.1",
        title="Taskwire audit-worker",
        description="The tamper-evident audit trail: one entry for every committed change of every task.",
        routers=[trail_router, gaps_router, dead_letters_router],
        background=background,
    )
    database, token = app.state.database, settings.app_api_token.get_secret_value()
    dapr_app = subscribe_to_tasks(
        app,
        database=database,
        dead_letter_topic=AUDIT_DEAD_LETTER_TOPIC,
        app_api_token=token,
        effect=record,
        keep_failed=keeping_failed(database, erased),
        bulk=BulkSubscribe(settings.delivery_batch_size),
    )
    subscribe_to_dead_letters(
        app,
        dapr_app,
        database=database,
        topic=AUDIT_DEAD_LETTER_TOPIC,
        app_api_token=token,
        effect=record,
        erased=erased,
    )
    erasure = Erasure("audit-worker", database, erased, TrailData(), publisher)
    subscribe_to_accounts(dapr_app, app_api_token=token, handle=erasure.handle)
    return app
