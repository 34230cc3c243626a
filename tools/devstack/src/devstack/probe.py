"""One HTTP question to a part of ours: are you well?"""

import asyncio
from collections.abc import Mapping
from typing import Final

from devstack.layout import HOST

_PATIENCE: Final = 2.0
_STATUS_FIELD: Final = 1


async def http_status(
    port: int, path: str, headers: Mapping[str, str] | None = None, *, patience: float = _PATIENCE
) -> int | None:
    """Status of a GET on a loopback port; None when there is no answer within `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            return await _ask(port, path, headers or {})
    except (OSError, TimeoutError, ValueError, IndexError, asyncio.IncompleteReadError):
        return None


async def _ask(port: int, path: str, headers: Mapping[str, str]) -> int:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        status_line = await reader.readline()
        # Read to the end, or the other side logs a broken connection.
        await reader.read()
        return int(status_line.split()[_STATUS_FIELD])
    finally:
        writer.close()
