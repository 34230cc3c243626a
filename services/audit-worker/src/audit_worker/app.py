"""Puts audit-worker together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from audit_worker.gaps.routes import router as gaps_router
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.members import knowing_members
from audit_worker.trail.routes import router as trail_router
from audit_worker.trail.service import Recorder, TrailData
from chassis.consumer_service import ConsumerService
from chassis.dead_letters.routes import router as dead_letters_router
from chassis.service import create_service
from task_events.topics import AUDIT_DEAD_LETTER_TOPIC


def create_app(settings: AuditWorkerSettings) -> FastAPI:
    """Make the application: the API of the trail, and the door through which events come in."""
    consumer = ConsumerService("audit-worker", settings, dead_letter_topic=AUDIT_DEAD_LETTER_TOPIC)

    @asynccontextmanager
    async def background(app: FastAPI) -> AsyncIterator[None]:
        async with consumer.background(app), knowing_members(app, settings):
            yield

    app = create_service(
        settings,
        package="audit_worker",
        api_version="1.1",
        title="Taskwire audit-worker",
        description="The tamper-evident audit trail: one entry for every committed change of every task.",
        routers=[trail_router, gaps_router, dead_letters_router],
        background=background,
    )
    consumer.subscribe(app, effect=Recorder(consumer.erased).record, data=TrailData())
    return app
