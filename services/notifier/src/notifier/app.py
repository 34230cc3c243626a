"""Puts notifier together."""

from fastapi import FastAPI

from chassis.consumer_service import ConsumerService
from chassis.dead_letters.routes import router as dead_letters_router
from chassis.service import create_service
from notifier.inbox.routes import router as inbox_router
from notifier.inbox.service import InboxData, Notifier
from notifier.settings import NotifierSettings
from task_events.topics import NOTIFIER_DEAD_LETTER_TOPIC


def create_app(settings: NotifierSettings) -> FastAPI:
    """Make the application: the API of the in-app inbox, and the door through which events come in."""
    consumer = ConsumerService("notifier", settings, dead_letter_topic=NOTIFIER_DEAD_LETTER_TOPIC)
    app = create_service(
        settings,
        package="notifier",
        api_version="1.1",
        title="Taskwire notifier",
        description="Tells people what happened to their tasks.",
        routers=[inbox_router, dead_letters_router],
        background=consumer.background,
    )
    consumer.subscribe(app, effect=Notifier(consumer.erased).notify, data=InboxData())
    return app
