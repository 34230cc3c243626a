import asyncio
import socket
from contextlib import suppress

from cluster import door


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def test_what_arrives_at_a_door_is_carried_to_its_port_and_back() -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server:
        outside = door.listen(0)
        door.serve({server.sockets[0].getsockname()[1]: outside})
        reader, writer = await asyncio.open_connection("127.0.0.1", outside.getsockname()[1])
        writer.write(b"there and back")
        assert await reader.readexactly(14) == b"THERE AND BACK"
        writer.write_eof()
        assert await reader.read() == b"", "the end is carried too"
        writer.close()
        await writer.wait_closed()


async def test_a_door_to_nobody_closes_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    outside = door.listen(0)
    door.serve({port: outside})
    reader, writer = await asyncio.open_connection("127.0.0.1", outside.getsockname()[1])
    with suppress(ConnectionResetError):
        assert not await reader.read()
    writer.close()
