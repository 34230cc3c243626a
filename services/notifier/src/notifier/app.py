"""Puts notifier together."""

from fastapi import FastAPI

from chassis.gaps import observing_gaps
from chassis.service import create_service
from chassis.subscriptions import subscribe_to_tasks
from notifier.inbox.routes import router as inbox_router
from notifier.inbox.service import notify_owners
from notifier.settings import NotifierSettings
from task_events.topics import NOTIFIER_DEAD_LETTER_TOPIC


def create_app(settings: NotifierSettings) -> FastAPI:
    """Make the application: the API of the in-app inbox, and the door through which events come in."""
    app = create_service(
        settings,
        package="notifier",
        title="Taskwire notifier",
        description="Tells people what happened to their tasks.",
        routers=[inbox_router],
        background=lambda app: observing_gaps(app.state.database),
    )
    subscribe_to_tasks(
        app,
        database=app.state.database,
        dead_letter_topic=NOTIFIER_DEAD_LETTER_TOPIC,
        app_api_token=settings.app_api_token.get_secret_value(),
        effect=notify_owners,
    )
    return app
