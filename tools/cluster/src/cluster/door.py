"""Ports of this machine's loopback address that lead into the network namespace of a node."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from cluster.api_server import LOOPBACK

_CHUNK: Final = 64 * 1024
_CONNECT_WITHIN: Final = 10.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listen(port: int) -> socket.socket:
    """Listen on a loopback port, 0 for any; a socket stays in the namespace in which it was made."""
    return socket.create_server((LOOPBACK, port), backlog=256)


def serve(doors: Mapping[int, socket.socket]) -> None:
    """Carry what arrives at each socket to a port on this side, in a thread that ends with the process."""
    threading.Thread(target=lambda: asyncio.run(_serve(doors)), daemon=True).start()


async def _serve(doors: Mapping[int, socket.socket]) -> None:
    async with asyncio.TaskGroup() as group:
        for port, listening in doors.items():
            server = await asyncio.start_server(_carrier(port), sock=listening)
            group.create_task(server.serve_forever())


def _carrier(port: int) -> Serve:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                there_reader, there_writer = await asyncio.open_connection(LOOPBACK, port)
        except (OSError, TimeoutError):
            writer.transport.abort()  # what the caller would have got there, as near as can be
            return
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        writer.close()
        there_writer.close()

    return carry


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except OSError:
        sink.transport.abort()  # a connection that broke breaks on the other side too
