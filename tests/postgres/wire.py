"""A network between a service and PostgreSQL that a test can break in ways a server's end does not show."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from devstack.layout import HOST

_QUERY: Final = b"Q"
"""Type of the message with a simple query (“Query” in PostgreSQL's documentation)."""


class Wire:
    """Passes on what comes, until it is told otherwise.

    Attributes:
        url: The connection string that leads through it.
        asked_in_vain: On how many connections somebody asked something after they had gone dead.
        answers_lost: How many answers to a COMMIT were.
    """

    def __init__(self, server: int) -> None:
        self.url, self.asked_in_vain, self.answers_lost = "", 0, 0
        self._server = server
        self._dead = set[asyncio.StreamWriter]()
        self._alive = set[asyncio.StreamWriter]()
        self._unanswered: bytes | None = None
        self._serving = dict[asyncio.Task[None], asyncio.StreamWriter]()

    def go_dead(self) -> None:
        """Say nothing more on any connection there is, not even that it is closed; new ones work."""
        self._dead |= self._alive
        self._alive.clear()

    def lose_the_answer_to_the_commit_of(self, words: bytes) -> None:
        """Once: have the server commit the transaction in which these were sent, and close in place of its answer."""
        self._unanswered = words

    def connect(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self._serving[asyncio.create_task(self._serve(client, answers))] = answers

    async def cut(self) -> None:
        """End all connections."""
        for writer in self._serving.values():
            writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, requests = await asyncio.open_connection(HOST, self._server)
        self._alive.add(answers)
        back = asyncio.create_task(self._back(server, answers))
        asked = found = lost = False
        with contextlib.suppress(OSError):
            while data := await client.read(65_536):
                if answers in self._dead:
                    self.asked_in_vain += data.startswith(_QUERY) and not asked
                    asked = True
                    continue
                found |= self._unanswered is not None and self._unanswered in data
                requests.write(data)
                await requests.drain()
                if found and b"COMMIT" in data:
                    self._unanswered = None
                    self.answers_lost += 1
                    self._dead.add(answers)
                    requests.write_eof()
                    lost = True
                    break
        if not lost:
            back.cancel()
        await asyncio.wait([back])
        for writer in (answers, requests):
            writer.close()

    async def _back(self, server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(65_536):
                if answers not in self._dead:
                    answers.write(data)
        if answers not in self._dead:
            answers.close()


@asynccontextmanager
async def wire_to(dsn: str, port: int) -> AsyncIterator[Wire]:
    """Lay one to the server at this port."""
    wire = Wire(port)
    serving = await asyncio.start_server(wire.connect, HOST, 0)
    wire.url = dsn.replace(f":{port}/", f":{serving.sockets[0].getsockname()[1]}/")
    try:
        yield wire
    finally:
        serving.close()
        await wire.cut()
