"""What every service is that consumes events: three doors for them, and what goes on in the background."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from chassis.accounts import subscribe_to_accounts
from chassis.consumer import Effect
from chassis.dead_letters.delivery import counting_open_letters, keeping_failed, subscribe_to_dead_letters
from chassis.erased_subjects import ErasedSubjects
from chassis.erasure import Erasure, UserData, confirming_publisher
from chassis.gaps import observing_gaps
from chassis.identity.introspection import taking_api_keys
from chassis.settings import ConsumerSettings
from chassis.subscriptions import BulkSubscribe, subscribe_to_tasks


class ConsumerService:
    """Gives a service its subscriptions: events of tasks, its own dead letters, accounts to erase."""

    def __init__(self, name: str, settings: ConsumerSettings, *, dead_letter_topic: str) -> None:
        """Prepare it.

        Args:
            name: App id.
            settings: Of the service.
            dead_letter_topic: Its own.
        """
        self._name, self._settings, self._dead_letter_topic = name, settings, dead_letter_topic
        self.erased = ErasedSubjects(settings.erasure_key)
        self._publisher = confirming_publisher(settings)

    @asynccontextmanager
    async def background(self, app: FastAPI) -> AsyncIterator[None]:
        """Do what goes on as long as the service runs, for `create_service`."""
        database = app.state.database
        try:
            async with observing_gaps(database), counting_open_letters(database), taking_api_keys(app, self._settings):
                yield
        finally:
            await self._publisher.close()

    def subscribe(self, app: FastAPI, *, effect: Effect, data: UserData) -> None:
        """Open the doors.

        Args:
            app: Made by `create_service`.
            effect: What the events of tasks do.
            data: What the service holds of users, besides dead letters.
        """
        database, token = app.state.database, self._settings.app_api_token.get_secret_value()
        dapr_app = subscribe_to_tasks(
            app,
            database=database,
            dead_letter_topic=self._dead_letter_topic,
            app_api_token=token,
            effect=effect,
            keep_failed=keeping_failed(database, self.erased),
            bulk=BulkSubscribe(self._settings.delivery_batch_size),
        )
        subscribe_to_dead_letters(
            app,
            dapr_app,
            database=database,
            topic=self._dead_letter_topic,
            app_api_token=token,
            effect=effect,
            erased=self.erased,
        )
        erasure = Erasure(self._name, database, self.erased, data, self._publisher)
        subscribe_to_accounts(dapr_app, app_api_token=token, handle=erasure.handle)
