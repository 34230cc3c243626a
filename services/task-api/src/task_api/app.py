"""Puts task-api together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from chassis.service import create_service
from task_api.outbox.publisher import DaprPublisher
from task_api.outbox.relay import Relay
from task_api.outbox.service import Outbox
from task_api.settings import TaskApiSettings
from task_api.tasks.cursors import CursorSeal
from task_api.tasks.routes import router as tasks_router
from task_api.tasks.service import TaskService


def create_app(settings: TaskApiSettings) -> FastAPI:
    """Make the application; its lifespan runs the relay."""

    @asynccontextmanager
    async def relaying(app: FastAPI) -> AsyncIterator[None]:
        publisher = DaprPublisher(
            http_port=settings.dapr_http_port,
            grpc_port=settings.dapr_grpc_port,
            api_token=settings.dapr_api_token.get_secret_value(),
            timeout=settings.relay_publish_timeout,
        )
        relay = Relay(
            app.state.database,
            publisher,
            batch_size=settings.relay_batch_size,
            poll_interval=settings.relay_poll_interval,
        )
        app.state.task_service = TaskService(Outbox(relay), CursorSeal(settings.cursor_source()))
        try:
            async with relay.running():
                yield
        finally:
            await publisher.close()

    return create_service(
        settings,
        package="task_api",
        title="Taskwire task-api",
        description="Authenticated CRUD over tasks. Every change is an event on the `tasks` topic.",
        routers=[tasks_router],
        background=relaying,
    )
