"""Connections whose every byte is under the control of a test, to the server that is deployed."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import APIRouter, FastAPI

from chassis.security_headers import SECURITY_HEADERS
from chassis.server import GracefulServer
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import PATIENCE, REFUSED_URL, settings_for


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error, which is in the one shape and has what every answer has."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem: dict[str, str] = json.loads(self.body)
        assert problem["request_id"] == self.headers["x-request-id"]
        for name, value in SECURITY_HEADERS:
            assert self.headers[name.decode()] == value.decode()
        return problem["code"]


class Line:
    """A connection whose every byte is under our control."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, what: str) -> None:
        """Send, in one piece."""
        self.writer.write(what.encode("latin-1"))
        await self.writer.drain()

    async def answer(self) -> Answer:
        """Wait for one."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)

    async def is_closed(self) -> bool:
        """Wait until the server has closed, without another word."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read() == b""


class Server:
    """A server as it is deployed, on a free port."""

    def __init__(self, port: int) -> None:
        self.port = port

    @asynccontextmanager
    async def line(self, first: str = "") -> AsyncIterator[Line]:
        """Connect, with the first bytes at hand: the server, in the same loop, takes none of a head's time for them."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(first.encode("latin-1"))
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def deployed(*routers: APIRouter, **settings: object) -> AsyncIterator[Server]:
    """Serve some routes, on a service whose database is not there."""
    made = settings_for(ServiceSettings, REFUSED_URL, **settings)
    app: FastAPI = create_service(made, package="chassis", title="t", description="d", routers=routers)
    server = GracefulServer(app, made)
    server.config.timeout_keep_alive = round(PATIENCE)  # as long as a slow machine may need
    sock = uvicorn.Config(app, port=0).bind_socket()
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event to wait for)
            await asyncio.sleep(0.01)
        yield Server(sock.getsockname()[1])
    finally:
        server.should_exit = True
        await task
        sock.close()


def get(path: str = "/health/live", *headers: str) -> str:
    """Write a request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers]) + "\r\n\r\n"


def post(length: int, path: str = "/api/v1/echo") -> str:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
