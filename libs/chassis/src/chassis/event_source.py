"""A client of server-sent events for tests: reads them as the HTML standard says, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

_PATIENCE: Final = 90.0
Json = dict[str, Any]


class StreamRefusedError(Exception):
    """The server did not open a stream."""

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(f"{status} {problem}")
        self.status, self.problem = status, problem


@dataclass
class EventSource:
    """One connection.

    Attributes:
        last_event_id: What the client would send when it comes back.
        retry: Milliseconds it would wait before.
        comments: What the server said to nobody.
    """

    response: httpx2.Response
    lines: AsyncIterator[str]
    last_event_id: str = ""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)

    async def next(self) -> Json | None:
        """Give the data of the next event; None at the end of the stream."""
        async with asyncio.timeout(_PATIENCE):
            while (block := await self._block()) is not None:
                if block:
                    data: Json = json.loads(block)
                    return data
        return None

    async def begin(self) -> None:
        """Read the first block: where to resume, and when."""
        async with asyncio.timeout(_PATIENCE):
            await self._block()

    async def _block(self) -> str | None:
        """Give the data of all that comes before the next empty line; None at the end of the stream."""
        data: list[str] = []
        new_id = self.last_event_id
        async for line in self.lines:
            if not line:
                self.last_event_id = new_id
                return "\n".join(data)
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "data":
                data.append(value)
            elif key == "id":
                new_id = value
            elif key == "retry":
                self.retry = int(value)
            elif not key:
                self.comments.append(value)
        return None


@asynccontextmanager
async def event_source(
    http: httpx2.AsyncClient,
    url: str,
    headers: Mapping[str, str],
    *,
    last_event_id: str | None = None,
    query: Mapping[str, str] | None = None,
) -> AsyncIterator[EventSource]:
    """Open a stream and read its beginning.

    Raises:
        StreamRefusedError: The answer is not 200.
    """
    resume = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
    async with http.stream("GET", url, params=query, headers={**headers, **resume}) as response:
        if response.status_code != httpx2.codes.OK:
            await response.aread()
            raise StreamRefusedError(response.status_code, response.json())
        source = EventSource(response, response.aiter_lines())
        await source.begin()
        yield source
