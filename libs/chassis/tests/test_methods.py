"""HEAD, OPTIONS and 405 on every path, as RFC 9110 has them."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import StreamingResponse
from starlette.types import Message

from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import listening, serving, settings_for

router = APIRouter()
ticks: list[str] = []


@router.get("/things")
async def list_things() -> list[str]:
    return ["a", "b"]


@router.post("/things")
async def add_thing() -> str:
    return "c"


@router.delete("/things/{name}")
async def remove_thing(name: str) -> str:
    return name


@router.get("/things/latest")
async def latest_thing() -> str:
    return "b"


@router.get("/stream")
async def stream() -> StreamingResponse:
    async def for_ever() -> AsyncIterator[str]:
        while True:
            ticks.append("tick\n")
            yield ticks[-1]

    return StreamingResponse(for_ever(), media_type="text/plain")


def make_app() -> FastAPI:
    settings = settings_for(ServiceSettings)
    return create_service(settings, package="chassis", api_version="1.0", title="t", description="d", routers=[router])


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(make_app()) as client:
        yield client


PATHS = {
    "/api/v1/things": "GET, HEAD, OPTIONS, POST",
    "/api/v1/things/x": "DELETE, OPTIONS",
    "/api/v1/things/latest": "GET, HEAD, OPTIONS",
    "/health/live": "GET, HEAD, OPTIONS",
    "/docs": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_405_names_every_method_of_the_path(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.patch(path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == PATHS[path]


@pytest.mark.parametrize("path", PATHS)
async def test_options_answers_with_the_same_and_no_body(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == PATHS[path]
    assert response.headers["x-request-id"]


async def test_where_there_is_nothing_there_are_no_methods(client: httpx2.AsyncClient) -> None:
    for method in ("OPTIONS", "HEAD", "DELETE"):
        response = await client.request(method, "/api/v1/nothing")
        assert response.status_code == 404
        assert "allow" not in response.headers


async def test_head_without_a_get_is_a_405(client: httpx2.AsyncClient) -> None:
    response = await client.head("/api/v1/things/x")
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE, OPTIONS")


async def test_head_has_the_headers_of_get_and_no_body_over_the_wire() -> None:
    async with listening(make_app()) as url, httpx2.AsyncClient(base_url=url) as client:
        for _ in range(2):  # the second on the same connection, which a body would have spoilt
            head, get = await client.head("/api/v1/things"), await client.get("/api/v1/things")
            own = {"x-request-id", "x-correlation-id", "date", "ratelimit"}
            kept = [{name: value for name, value in one.headers.items() if name not in own} for one in (head, get)]
            assert kept[0] == kept[1]
            assert (head.status_code, head.content, get.content) == (200, b"", b'["a","b"]')


async def test_no_byte_of_a_body_is_given_to_the_server() -> None:
    """Servers drop it themselves, but not all, and not in time to send a right Content-Length."""
    app, sent = make_app(), list[Message]()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": "/api/v1/things", "headers": [], "query_string": b""}
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)
    start, *bodies = sent
    assert dict(start["headers"])[b"content-length"] == b"9"
    assert [body["body"] for body in bodies] == [b""]


async def test_head_of_a_stream_ends_it() -> None:
    async with listening(make_app()) as url, httpx2.AsyncClient(base_url=url) as client:
        response = await client.head("/api/v1/stream")
    assert (response.status_code, response.content) == (200, b"")
    assert len(ticks) == 1


async def test_head_and_405_are_measured_by_route(client: httpx2.AsyncClient) -> None:
    await client.head("/api/v1/things")
    await client.patch("/api/v1/things/measured")
    metrics = (await client.get("/metrics")).text
    assert 'method="HEAD",route="/api/v1/things",status="200"' in metrics
    assert 'method="PATCH",route="/api/v1/things/{name}",status="405"' in metrics


async def test_a_path_that_is_written_out_is_no_name_of_a_thing(client: httpx2.AsyncClient) -> None:
    """OpenAPI: a concrete path comes before a templated one, for every method."""
    response = await client.delete("/api/v1/things/latest")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert (await client.delete("/api/v1/things/older")).json() == "older"
    assert (await client.head("/api/v1/things/older")).status_code == 405
