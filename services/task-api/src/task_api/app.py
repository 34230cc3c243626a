"""Puts task-api together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from chassis.metrics import API_PREFIX
from chassis.service import create_service
from task_api.idempotency.dependencies import install_replay
from task_api.idempotency.service import Idempotency, forgetting_expired_keys
from task_api.outbox.publisher import DaprPublisher
from task_api.outbox.relay import Relay
from task_api.outbox.service import Outbox
from task_api.settings import TaskApiSettings
from task_api.tasks.bulk import TaskBulk
from task_api.tasks.bulk_routes import BULK_PATH
from task_api.tasks.bulk_routes import router as bulk_router
from task_api.tasks.routes import router as tasks_router
from task_api.tasks.service import TaskService


def create_app(settings: TaskApiSettings) -> FastAPI:
    """Make the application; its lifespan runs the relay."""
    idempotency = Idempotency(lifetime=settings.idempotency_lifetime)

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
        outbox = Outbox(relay)
        app.state.task_service = TaskService(outbox)
        app.state.task_bulk = TaskBulk(outbox)
        try:
            async with relay.running(), forgetting_expired_keys(idempotency, app.state.database):
                yield
        finally:
            await publisher.close()

    app = create_service(
        settings,
        package="task_api",
        title="Taskwire task-api",
        description="Authenticated CRUD over tasks. Every change is an event on the `tasks` topic.",
        routers=[bulk_router, tasks_router],
        body_limits={API_PREFIX + BULK_PATH: settings.bulk_max_body_bytes},
        background=relaying,
    )
    install_replay(app, idempotency)
    return app
