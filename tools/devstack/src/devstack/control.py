"""A word to a running supervisor: a Unix socket in the run directory, one JSON line each way."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from devstack.failures import ProvisionError

SOCKET: Final = "control.sock"
Handler = Callable[[str, str], Awaitable[None]]
"""Does something (a verb) to a part (its name); raises ControlError when it cannot."""


class ControlError(Exception):
    """What was asked for cannot be done; the text says why."""


@asynccontextmanager
async def listening(run: Path, handler: Handler) -> AsyncIterator[None]:
    """Take requests for the length of a block."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled with the server: who asked sees the connection end.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                writer.write(_encoded(await _answer(reader, handler)))
                await writer.drain()
            finally:
                writer.close()

    (run / SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with _short_path(run) as path:
        listener.bind(path)
    (run / SOCKET).chmod(0o600)
    server = await asyncio.start_unix_server(serve, sock=listener)
    try:
        yield
    finally:
        server.close()
        (run / SOCKET).unlink(missing_ok=True)


def ask(run: Path, verb: str, part: str, timeout: float) -> None:
    """Have the supervisor do something to a part, and wait until it is done.

    Raises:
        ControlError: It cannot be done.
        ProvisionError: No supervisor listens.
    """
    with _connected(run) as connection:
        connection.settimeout(timeout)
        try:
            connection.sendall(_encoded({"verb": verb, "part": part}))
            with connection.makefile() as stream:
                answer = json.loads(stream.readline() or '{"error": "the stack ended before it was done"}')
        except TimeoutError as error:
            raise ControlError(f"{part} did not get there within {timeout:.0f} s") from error
    if "error" in answer:
        raise ControlError(answer["error"])


@contextmanager
def _connected(run: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _short_path(run) as path:
                connection.connect(path)
        except OSError as error:
            raise ProvisionError("the stack cannot be asked", "it is not running", "Start it with make up") from error
        yield connection


async def _answer(reader: asyncio.StreamReader, handler: Handler) -> dict[str, str]:
    try:
        request = json.loads(await reader.readline())
        await handler(request["verb"], request["part"])
    except (ControlError, ProvisionError) as error:
        return {"error": str(error)}
    except (ValueError, KeyError, TypeError):
        return {"error": "the request was not understood"}
    return {"done": "yes"}


def _encoded(message: dict[str, str]) -> bytes:
    return (json.dumps(message) + "\n").encode()


@contextmanager
def _short_path(run: Path) -> Iterator[str]:
    """A path to the socket that fits the kernel's 107 bytes however long the directory's name is."""
    descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
