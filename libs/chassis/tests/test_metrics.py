"""What is counted of a request whose answer breaks off, and series that are there before anything is counted."""

from importlib import metadata

import pytest
from prometheus_client import REGISTRY, Counter
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from chassis.metrics import ObservedMiddleware, with_series
from chassis.resilience import CallPolicy, ResilientCall
from chassis.service import create_service
from chassis.settings import ServiceSettings
from chassis.testing import scrape, serving, settings_for


def served(route: str, status: str) -> float:
    """Tell how many requests were counted."""
    labels = {"method": "GET", "route": route, "status": status}
    return REGISTRY.get_sample_value("taskwire_http_request_duration_seconds_count", labels) or 0


async def answered_until(error: Exception | None, route: str) -> None:
    """Serve a request whose answer begins with 200 and ends with an error, or well."""

    class Route:
        path = route

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        if error is not None:
            raise error
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": route, "headers": [], "route": Route()}
    await ObservedMiddleware(app)(scope, receive, send)


async def test_an_answer_that_breaks_off_is_a_failure_whatever_it_began_with() -> None:
    with pytest.raises(RuntimeError):
        await answered_until(RuntimeError(), "/breaks-off")
    assert (served("/breaks-off", "200"), served("/breaks-off", "500")) == (0, 1)


async def test_a_caller_who_leaves_is_no_failure() -> None:
    with pytest.raises(ClientDisconnect):
        await answered_until(ClientDisconnect(), "/left")
    assert (served("/left", "200"), served("/left", "500")) == (1, 0)


async def test_an_answer_that_ends_is_what_it_began_with() -> None:
    await answered_until(None, "/ends")
    assert (served("/ends", "200"), served("/ends", "500")) == (1, 0)


def test_a_counter_is_there_with_all_its_series_before_anything_is_counted() -> None:
    with_series(Counter("taskwire_tests_total", "Of this test", ["outcome"]), "good", "bad")
    assert [REGISTRY.get_sample_value("taskwire_tests_total", {"outcome": one}) for one in ("good", "bad")] == [0, 0]


def test_the_first_failure_of_a_call_is_one_more_than_none() -> None:
    ResilientCall(CallPolicy("never-made", timeout=1))
    outcomes = ("ok", "error", "timeout", "refused", "cancelled")
    series = [{"call": "never-made", "outcome": outcome} for outcome in outcomes]
    assert [REGISTRY.get_sample_value("taskwire_outbound_calls_total", labels) for labels in series] == [0] * 5


async def test_the_version_that_runs_is_a_metric() -> None:
    made = settings_for(ServiceSettings)
    app = create_service(made, package="chassis", title="t", description="d", routers=[])
    async with serving(app) as client:
        assert await scrape(client, "taskwire_build_info", version=metadata.version("chassis")) == 1
