"""A process of its own whose relay leads and gets no further: `python hanging_relay.py URL PUBLISH_TIMEOUT WHERE`.

Where is "publishing" (its batch is on its way and no answer comes) or "reading" (it asked for a batch and does not take
it from the socket, as a process that is frozen there). It says so; from then on its transaction is open.
"""

import asyncio
import sys
from collections.abc import Sequence
from uuid import UUID

from chassis.database import open_database
from chassis.testing import settings_for
from task_api.outbox.relay import Relay
from task_api.outbox.repository import OutboxRepository, Unsent
from task_api.settings import TaskApiSettings
from task_events import EncodedEvent


class HangingPublisher:
    open_for = 0.0

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        sys.stdout.write("publishing\n" if events else "nothing\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def read_nothing(self: OutboxRepository, limit: int, *, in_flight: Sequence[UUID] = ()) -> list[Unsent]:
    await due(self, 0)  # prepares the statement, which takes an answer
    connection = await (await self._session.connection()).get_raw_connection()
    assert connection.driver_connection is not None
    connection.driver_connection._transport.pause_reading()
    sys.stdout.write("reading\n")
    sys.stdout.flush()
    return await due(self, limit, in_flight=in_flight)


due = OutboxRepository.due


async def main(database_url: str, publish_timeout: float, where: str) -> None:
    if where == "reading":
        setattr(OutboxRepository, "due", read_nothing)  # noqa: B010
    database = open_database(settings_for(TaskApiSettings, database_url), application_name="hanging-relay")
    relay = Relay(database, HangingPublisher(), batch_size=10, poll_interval=0.05, publish_timeout=publish_timeout)
    while True:  # on a slow machine the first pass may be over before it hangs
        await relay.relay_once()


asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
