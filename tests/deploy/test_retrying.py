"""The client of rung (c), against a server that answers as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import httpx2
import pytest
from tests.deploy import retrying
from tests.deploy.retrying import RetryingTransport, Tally


@pytest.fixture(autouse=True)
def _no_attempt_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "ONE_ATTEMPT", 90.0)


@dataclass
class Server:
    """Answers with one status after the other, the last one for ever; 0 hangs up instead."""

    statuses: Sequence[int]
    port: int = 0
    keys: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = self.statuses[min(len(self.keys), len(self.statuses) - 1)]
        self.keys.append(head.partition("idempotency-key: ")[2].partition("\r\n")[0])
        if status:
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}".encode())
            await writer.drain()
        writer.close()


@asynccontextmanager
async def _server(*statuses: int) -> AsyncIterator[Server]:
    server = Server(statuses)
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


async def _post(server: Server, tally: Tally) -> int:
    async with httpx2.AsyncClient(transport=RetryingTransport(tally)) as client:
        answer = await client.post(f"http://127.0.0.1:{server.port}/", json={})
        assert answer.json() == {}
        return answer.status_code


async def test_a_change_is_sent_again_under_the_same_key_until_an_answer() -> None:
    tally = Tally()
    async with _server(0, 503, 409, 201) as server:
        assert await _post(server, tally) == 201
    assert len(server.keys) == 4
    assert len(set(server.keys)) == 1
    assert server.keys[0]
    assert (tally.requests, tally.errors, tally.retried, tally.failed) == (1, 3, 1, 0)


async def test_two_changes_have_two_keys() -> None:
    tally = Tally()
    async with _server(201) as server:
        await _post(server, tally)
        await _post(server, tally)
    assert len(set(server.keys)) == 2
    assert (tally.requests, tally.errors, tally.retried) == (2, 0, 0)


@pytest.mark.parametrize("status", [400, 404, 422, 500])
async def test_an_answer_that_trying_again_does_not_change_is_the_answer(status: int) -> None:
    tally = Tally()
    async with _server(status) as server:
        assert await _post(server, tally) == status
    assert len(server.keys) == 1


async def test_what_no_attempt_brings_through_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0, retrying.PATIENCE + 1])  # when it begins, at the first attempt, at the second
    monkeypatch.setattr(retrying, "time", SimpleNamespace(monotonic=lambda: next(times)))
    tally = Tally()
    async with _server(503) as server:
        assert await _post(server, tally) == 503
    assert len(server.keys) == tally.errors == 2
    assert tally.failed == 1
