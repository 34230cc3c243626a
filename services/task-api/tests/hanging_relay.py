"""A process of its own whose relay never gets an answer: `python hanging_relay.py URL PUBLISH_TIMEOUT`.

Says "publishing" once a batch is on its way; from then on its transaction is open.
"""

import asyncio
import sys
from collections.abc import Sequence

from chassis.database import open_database
from chassis.testing import settings_for
from task_api.outbox.relay import Relay
from task_api.settings import TaskApiSettings
from task_events import EncodedEvent


class HangingPublisher:
    open_for = 0.0

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        sys.stdout.write("publishing\n" if events else "nothing\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def main(database_url: str, publish_timeout: float) -> None:
    database = open_database(settings_for(TaskApiSettings, database_url), application_name="hanging-relay")
    relay = Relay(database, HangingPublisher(), batch_size=10, poll_interval=0.05, publish_timeout=publish_timeout)
    await relay.relay_once()


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
