"""Peers on real sockets that answer badly, for tests of what calls them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take all there is and say nothing."""
    await reader.read()


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever: no gap between two of them is long."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Say nothing and go."""


def saying(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> Answer:
    """Give one HTTP answer to whatever is asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n" + more
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return answer


@dataclass
class Peer:
    """Who listens where a service should be, and how often it was asked."""

    answer: Answer
    url: str = ""
    connections: int = 0


@asynccontextmanager
async def peer_that(answer: Answer) -> AsyncIterator[Peer]:
    """Listen on a port of its own while the block lasts."""
    peer = Peer(answer)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        try:
            await peer.answer(reader, writer)
        except OSError:
            pass  # the caller has gone
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
    finally:
        server.close()
        await server.wait_closed()
