"""Puts notifier together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from chassis.accounts import subscribe_to_accounts
from chassis.dead_letters.delivery import counting_open_letters, keeping_failed, subscribe_to_dead_letters
from chassis.dead_letters.routes import router as dead_letters_router
from chassis.erased_subjects import ErasedSubjects
from chassis.erasure import Erasure, confirming_publisher
from chassis.gaps import observing_gaps
from chassis.identity.introspection import taking_api_keys
from chassis.service import create_service
from chassis.subscriptions import BulkSubscribe, subscribe_to_tasks
from notifier.inbox.routes import router as inbox_router
from notifier.inbox.service import InboxData, Notifier
from notifier.settings import NotifierSettings
from task_events.topics import NOTIFIER_DEAD_LETTER_TOPIC


def create_app(settings: NotifierSettings) -> FastAPI:
    """Make the application: the API of the in-app inbox, and the door through which events come in."""
    erased, publisher = ErasedSubjects(settings.erasure_key), confirming_publisher(settings)
    notify = Notifier(erased).notify

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
        package="notifier",
        api_version="1.1",
        title="Taskwire notifier",
        description="Tells people what happened to their tasks.",
        routers=[inbox_router, dead_letters_router],
        background=background,
    )
    database, token = app.state.database, settings.app_api_token.get_secret_value()
    dapr_app = subscribe_to_tasks(
        app,
        database=database,
        dead_letter_topic=NOTIFIER_DEAD_LETTER_TOPIC,
        app_api_token=token,
        effect=notify,
        keep_failed=keeping_failed(database, erased),
        bulk=BulkSubscribe(settings.delivery_batch_size),
    )
    subscribe_to_dead_letters(
        app,
        dapr_app,
        database=database,
        topic=NOTIFIER_DEAD_LETTER_TOPIC,
        app_api_token=token,
        effect=notify,
        erased=erased,
    )
    erasure = Erasure("notifier", database, erased, InboxData(), publisher)
    subscribe_to_accounts(dapr_app, app_api_token=token, handle=erasure.handle)
    return app
