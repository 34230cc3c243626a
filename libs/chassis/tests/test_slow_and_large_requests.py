"""What a request may be in size, and how slowly it may come, on real connections to the server that is deployed."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from fastapi import APIRouter, Body, Request
from libs.chassis.tests.connections import Server, get, post
from libs.chassis.tests.connections import deployed as deployed_with

from chassis.request_heads import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from devstack.polling import at_some_pace

SHORT = 0.3
router = APIRouter()


@router.post("/echo")
async def echo(body: dict[str, Any] = Body()) -> dict[str, Any]:
    return body


@router.get("/client")
async def client(request: Request) -> str:
    assert request.client
    return request.client.host


def deployed(**settings: object) -> AbstractAsyncContextManager[Server]:
    return deployed_with(router, **settings)


async def test_a_url_up_to_the_limit_is_taken_and_a_longer_one_is_a_414() -> None:
    async with deployed() as server, server.line() as line:
        path = "/api/v1/client?x=" + "x" * (MAX_URL_BYTES - len("/api/v1/client?x=") + 1)
        await line.say(get(path))
        assert (await line.answer()).status == 200
    for length in (MAX_URL_BYTES + 2, 20_000, 200_000):  # in one piece, past what the parser waits for
        async with deployed() as server, server.line() as line:
            await line.say(get("/" + "x" * length))
            answer = await line.answer()
            assert (answer.status, answer.code) == (414, "uri_too_long")
            assert f"{MAX_URL_BYTES} bytes" in answer.body.decode()
            assert answer.headers["connection"] == "close"
            assert await line.is_closed()


async def test_a_url_that_comes_bit_by_bit_is_refused_before_it_ends() -> None:
    async with deployed() as server, server.line() as line:
        await line.say("GET /")
        for _ in range(40):
            await line.say("x" * 1_000)
            await asyncio.sleep(0)
        answer = await line.answer()
        assert (answer.status, answer.code) == (414, "uri_too_long")


async def test_headers_up_to_the_limits_are_taken_and_more_are_a_431() -> None:
    async with deployed() as server:
        async with server.line() as line:
            await line.say(get("/health/live", *[f"X-{number}: x" for number in range(MAX_HEADERS - 1)]))
            assert (await line.answer()).status == 200
            await line.say(get("/health/live", "X: " + "x" * (MAX_HEADER_BYTES - len("hostxx"))))
            assert (await line.answer()).status == 200
        for headers in ([f"X-{number}: x" for number in range(MAX_HEADERS)], ["X: " + "x" * MAX_HEADER_BYTES]):
            async with server.line() as line:
                await line.say(get("/health/live", *headers))
                answer = await line.answer()
                assert (answer.status, answer.code) == (431, "headers_too_large")
                assert await line.is_closed()


async def test_headers_that_come_bit_by_bit_without_an_end_are_refused() -> None:
    async with deployed() as server, server.line() as line:
        await line.say("GET / HTTP/1.1\r\n")
        for number in range(40):
            await line.say(f"X-{number}: " + "x" * 1_000 + "\r\n")
            await asyncio.sleep(0)
        answer = await line.answer()
        assert (answer.status, answer.code) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "request_text",
    ["\x00\x01\x02\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
     "GET / HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_request_is_told_so_in_the_one_shape(request_text: str) -> None:
    async with deployed() as server, server.line() as line:
        await line.say(request_text)
        answer = await line.answer()
        assert (answer.status, answer.code) == (400, "malformed_request")
        assert await line.is_closed()


async def test_a_head_that_comes_too_slowly_is_a_408() -> None:
    async with deployed(head_timeout=SHORT) as server:
        for begun in ("G", "GET / HTTP/1.1\r\nHost: x\r\n", "POST / HTTP/1.1\r\nHost: x\r\nX: "):
            async with server.line(begun) as line:
                answer = await line.answer()
                assert (answer.status, answer.code) == (408, "request_head_stalled")
                assert await line.is_closed()


async def test_a_byte_now_and_then_does_not_help() -> None:
    async with deployed(head_timeout=SHORT) as server, server.line("GET / HTTP/1.1\r\nX: ") as line:

        async def drip() -> None:
            while True:
                await line.say("x")
                await asyncio.sleep(SHORT / 10)

        dripping = asyncio.create_task(drip())
        assert (await line.answer()).status == 408
        dripping.cancel()


async def test_the_second_request_of_a_connection_is_bounded_as_the_first() -> None:
    async with deployed(head_timeout=SHORT) as server, server.line(get()) as line:
        assert (await line.answer()).status == 200
        for _ in range(2):
            await line.say(get())
            assert (await line.answer()).status == 200
        await line.say("GET / HTTP/1.1\r\n")
        assert (await line.answer()).status == 408
        assert await line.is_closed()


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with deployed(head_timeout=SHORT) as server, server.line() as line:
        assert await line.is_closed()


async def test_a_request_that_takes_its_time_to_be_answered_is_no_slow_head() -> None:
    body = b'{"a": "b"}'
    async with deployed(head_timeout=SHORT) as server, server.line(post(len(body))) as line:
        await asyncio.sleep(3 * SHORT)
        await line.say(body.decode())
        assert (await line.answer()).body == b'{"a":"b"}'


async def test_a_connection_may_rest_between_two_requests_for_longer_than_a_head_may_take() -> None:
    """The clock of the first request's head has stopped with its end."""
    async with deployed(head_timeout=SHORT) as server, server.line(get()) as line:
        for _ in range(3):
            assert (await line.answer()).status == 200
            await asyncio.sleep(2 * SHORT)
            await line.say(get())
        assert (await line.answer()).status == 200


async def test_a_body_that_stalls_is_a_408() -> None:
    async with deployed(body_timeout=SHORT) as server:
        for begun in ("", '{"a"', '{"a": "' + "x" * 10_000):
            async with server.line() as line:
                await line.say(post(20_000) + begun)
                answer = await line.answer()
                assert (answer.status, answer.code) == (408, "upload_stalled")
                assert answer.headers["connection"] == "close"


async def test_a_body_that_drips_is_a_408_however_long_it_goes_on() -> None:
    async with deployed(body_timeout=SHORT) as server, server.line() as line:
        await line.say(post(20_000) + '{"a": "')

        async def drip() -> None:
            while True:
                await line.say("x")
                await asyncio.sleep(SHORT / 10)

        dripping = asyncio.create_task(drip())
        answer = await line.answer()
        dripping.cancel()
        assert (answer.status, answer.code) == (408, "upload_stalled")


async def test_a_body_that_makes_progress_may_take_as_long_as_it_needs() -> None:
    body = '{"a": "' + "x" * 30_000 + '"}'

    async def comes_in_pieces(seconds: float) -> bool:
        async with deployed(body_timeout=seconds) as server, server.line(post(len(body))) as line:
            for start in range(0, len(body), 3_000):  # ten pieces and more, together longer than the time-out
                await asyncio.sleep(seconds / 6)
                await line.say(body[start : start + 3_000])
            return (await line.answer()).status == 200

    assert await at_some_pace(comes_in_pieces, 2 * SHORT)


async def test_forwarded_addresses_are_believed_for_trusted_proxies_only_on_the_deployed_server_too() -> None:
    forwarded = get("/api/v1/client", "X-Forwarded-For: 198.51.100.7")
    async with deployed() as server, server.line() as line:
        await line.say(forwarded)
        assert (await line.answer()).body == b'"127.0.0.1"'
    async with deployed(trusted_proxies="127.0.0.0/8, ::1") as server, server.line() as line:
        await line.say(forwarded)
        assert (await line.answer()).body == b'"198.51.100.7"'
