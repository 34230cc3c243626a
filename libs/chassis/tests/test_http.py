"""What every service does with any request: ids, one error shape, limits, metrics, a log line."""

import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Query, Response
from pydantic import BaseModel

from chassis.correlation import current_corr_id
from chassis.logging import configure_logging
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import PATIENCE, bearer, listening, serving, settings_for

MAX_BODY = 2048
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}


class Note(BaseModel):
    text: str


router = APIRouter()


@router.get("/corr")
async def corr() -> str:
    return current_corr_id()


@router.post("/notes")
async def add_note(note: Note) -> str:
    return note.text


@router.get("/broken/{number}")
async def broken(number: int) -> None:
    raise RuntimeError(f"secret detail {number}")


@router.get("/public")
async def public(response: Response) -> None:
    response.headers["Cache-Control"] = "public, max-age=60"


@router.get("/count")
async def count(limit: Annotated[int, Query(ge=1)] = 1) -> int:
    return limit


def make_app() -> FastAPI:
    settings = settings_for(ServiceSettings, max_body_bytes=MAX_BODY)
    return create_service(settings, package="chassis", api_version="1.0", title="t", description="d", routers=[router])


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(make_app()) as client:
        yield client


def assert_problem(response: httpx2.Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, object] = response.json()
    assert set(problem) - {"errors"} == PROBLEM_MEMBERS
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


async def test_well_formed_ids_are_accepted_and_returned(client: httpx2.AsyncClient) -> None:
    headers = {"X-Request-ID": "req-1", "X-Correlation-ID": "story:7.a"}
    response = await client.get("/api/v1/corr", headers=headers)
    assert (response.headers["x-request-id"], response.headers["x-correlation-id"]) == ("req-1", "story:7.a")
    assert response.json() == "story:7.a"


@pytest.mark.parametrize("value", ["", " ", "a b", "a" * 129, "-a", 'a"b', "ä", "a\tb"])
async def test_ids_that_are_not_well_formed_are_replaced(client: httpx2.AsyncClient, value: str) -> None:
    given = value.encode("latin-1")
    headers = [(b"X-Request-ID", given), (b"X-Correlation-ID", given)]
    response = await client.get("/api/v1/corr", headers=headers)
    assert value not in {response.headers["x-request-id"], response.headers["x-correlation-id"]}
    assert response.json() == response.headers["x-correlation-id"] == response.headers["x-request-id"]


async def test_two_requests_never_share_an_id(client: httpx2.AsyncClient) -> None:
    first, second = await client.get("/api/v1/corr"), await client.get("/api/v1/corr")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_an_unforeseen_error_is_a_500_that_tells_nothing(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/v1/broken/7")
    assert_problem(response, 500, "internal_error")
    assert "secret" not in response.text
    assert "Traceback" not in response.text


async def test_an_unknown_path_is_a_404_in_the_one_shape(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get("/api/v1/nothing-here"), 404, "route_not_found")


async def test_a_wrong_method_is_a_405_that_names_the_allowed_ones(client: httpx2.AsyncClient) -> None:
    response = await client.delete("/api/v1/notes")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[" * 2000, b'{"text": ' + b"1" * 2000 + b"e"])
async def test_a_body_that_is_not_json_is_a_400(client: httpx2.AsyncClient, body: bytes) -> None:
    response = await client.post("/api/v1/notes", content=body, headers={"Content-Type": "application/json"})
    if body:
        assert_problem(response, 400, "malformed_json")
    else:
        assert_problem(response, 422, "validation_error")


async def test_a_body_of_another_type_is_a_415(client: httpx2.AsyncClient) -> None:
    response = await client.post("/api/v1/notes", content="text=hello", headers={"Content-Type": "text/plain"})
    assert_problem(response, 415, "unsupported_media_type")


async def test_a_wrong_field_is_a_422_that_names_it_and_repeats_no_value(client: httpx2.AsyncClient) -> None:
    response = await client.post("/api/v1/notes", json={"text": ["my secret"]})
    problem = assert_problem(response, 422, "validation_error")
    assert problem["errors"] == [{"field": "text", "message": "Input should be a valid string"}]
    assert "secret" not in response.text


async def test_a_wrong_query_parameter_is_named_as_one(client: httpx2.AsyncClient) -> None:
    problem = assert_problem(await client.get("/api/v1/count?limit=0"), 422, "validation_error")
    assert str(problem["detail"]).startswith("query.limit: ")


async def test_a_field_name_with_a_lone_surrogate_is_answered_and_not_a_500(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post(
        "/api/v1/notes", content=b'{"\\ud800": 1}', headers={"Content-Type": "application/json"}
    )
    assert_problem(response, 422, "validation_error")


async def test_a_declared_oversize_body_is_a_413(client: httpx2.AsyncClient) -> None:
    response = await client.post("/api/v1/notes", content=b"x" * (MAX_BODY + 1))
    problem = assert_problem(response, 413, "body_too_large")
    assert str(MAX_BODY) in str(problem["detail"])


async def test_an_undeclared_oversize_body_is_a_413_too(client: httpx2.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1000

    response = await client.post("/api/v1/notes", content=chunks(), headers={"Content-Type": "application/json"})
    assert_problem(response, 413, "body_too_large")


@pytest.mark.parametrize("declared", [True, False])
async def test_who_sends_far_too_much_reads_why_and_not_a_reset_connection(declared: bool) -> None:
    piece = b"x" * 100_000

    async def ten_megabytes() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield piece

    async with listening(make_app()) as url, httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        for _ in range(3):
            content = piece * 100 if declared else ten_megabytes()
            json_body = {"Content-Type": "application/json"}
            response = await client.post("/api/v1/notes", content=content, headers=json_body)
            assert_problem(response, 413, "body_too_large")
            assert response.headers["connection"] == "close"


async def test_a_body_of_exactly_the_limit_is_taken(client: httpx2.AsyncClient) -> None:
    text = "x" * (MAX_BODY - len('{"text":""}'))
    response = await client.post("/api/v1/notes", content=json.dumps({"text": text}, separators=(",", ":")))
    assert response.status_code == 415  # no content type was sent, so it was read and not understood
    response = await client.post("/api/v1/notes", json={"text": text})
    assert response.status_code == 200


async def test_requests_are_counted_by_route_template(client: httpx2.AsyncClient) -> None:
    await client.get("/api/v1/broken/12345")
    metrics = (await client.get("/metrics")).text
    assert 'route="/api/v1/broken/{number}",status="500"' in metrics
    assert "broken/12345" not in metrics  # the number alone may be part of a time


async def test_what_is_no_http_request_at_all_is_refused_by_the_server() -> None:
    async with listening(make_app()) as url, httpx2.AsyncClient(timeout=PATIENCE) as client:
        response = await client.get(f"{url}/api/v1/corr", headers={"X-Request-ID": "over-the-wire"})
        assert response.headers["x-request-id"] == "over-the-wire"


@pytest.fixture
def json_logs() -> Iterator[Callable[[], list[dict[str, object]]]]:
    """Log as a service does, into memory; gives a function that reads the lines."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure_logging(service="test-service", level="INFO", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


Lines = Callable[[], list[dict[str, object]]]


async def test_a_request_leaves_one_json_line_with_its_ids(client: httpx2.AsyncClient, json_logs: Lines) -> None:
    await client.get("/api/v1/corr", headers={"X-Correlation-ID": "story-9"} | bearer("alice"))
    (line,) = [line for line in json_logs() if line["event"] == "request"]
    expected = {"route": "/api/v1/corr", "status": 200, "corr_id": "story-9", "service": "test-service"}
    assert expected.items() <= line.items()
    assert line["level"] == "info"


async def test_an_unforeseen_error_is_logged_with_its_stack_and_request_id(
    client: httpx2.AsyncClient, json_logs: Lines
) -> None:
    response = await client.get("/api/v1/broken/7")
    (line,) = [line for line in json_logs() if line["event"] == "request failed"]
    assert "RuntimeError: secret detail 7" in str(line["exception"])
    assert line["request_id"] == response.headers["x-request-id"]


async def test_logs_of_libraries_are_json_lines_too(json_logs: Lines) -> None:
    logging.getLogger("some.library").warning("took %d s", 7)
    (line,) = json_logs()
    assert (line["event"], line["logger"], line["level"]) == ("took 7 s", "some.library", "warning")


async def test_nobody_but_the_caller_may_keep_an_answer_unless_a_route_says_otherwise(
    client: httpx2.AsyncClient,
) -> None:
    for path in ("/api/v1/corr", "/api/v1/nothing", "/api/v1/broken/7"):
        headers = (await client.get(path)).headers
        assert (headers["cache-control"], headers["vary"]) == ("private, no-cache", "Authorization")
    assert (await client.get("/api/v1/public")).headers.get_list("cache-control") == ["public, max-age=60"]
    assert "cache-control" not in (await client.get("/health/live")).headers


async def test_a_path_may_have_a_body_limit_of_its_own() -> None:
    settings = settings_for(ServiceSettings, max_body_bytes=MAX_BODY)
    app = create_service(
        settings, package="chassis", title="t", description="d", routers=[router], body_limits={"/api/v1/notes": 4096}
    )
    async with serving(app) as client:
        for size, status in ((4096, 200), (4097, 413)):
            content = b'{"text":"' + b"x" * (size - len('{"text":""}')) + b'"}'
            response = await client.post("/api/v1/notes", content=content, headers={"Content-Type": "application/json"})
            assert response.status_code == status
            assert status == 200 or "4096" in response.json()["detail"]
        assert (await client.post("/api/v1/corr", content=b"x" * (MAX_BODY + 1))).status_code == 413


async def test_methods_that_a_caller_makes_up_are_one_label_however_many_there_are(client: httpx2.AsyncClient) -> None:
    for number in range(20):
        assert (await client.request(f"MADE-UP-{number}", "/api/v1/corr")).status_code == 405
    page = (await client.get("/metrics")).text
    assert "MADE-UP" not in page
    assert 'method="_OTHER"' in page
