"""Prometheus metrics: the RED figures of every route, and `/metrics`.

Routes are labelled by their template (`/api/v1/tasks/{task_id}`), never by the path, and methods by those there are, so
the number of series stays bounded whatever is asked for. docs/reference/metrics.md tells all metrics.
"""

import time
from typing import Final

from fastapi import APIRouter
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.errors import internal_error_response
from chassis.logging import get_logger
from chassis.paths import API_PREFIX, SIDECAR_PREFIXES

# Otherwise each counter and histogram has one series more, with the time when it began, which nothing here reads.
disable_created_metrics()

_UNMATCHED: Final = "unmatched"
_METHODS: Final = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_OTHER_METHOD: Final = "_OTHER"
"""As OpenTelemetry calls it in `http.request.method`."""
_BROKEN_OFF: Final = 500
_QUIET_PATHS: Final = ("/health/", "/metrics", *SIDECAR_PREFIXES)

_requests = Histogram(
    "taskwire_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its response",
    ["method", "route", "status"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10),
)
_in_flight = Gauge("taskwire_http_requests_in_flight", "Requests being served now")
outbound_calls = Counter(
    "taskwire_outbound_calls_total", "Calls that left this process, by outcome", ["call", "outcome"]
)
breaker_state = Gauge("taskwire_breaker_state", "State of a circuit breaker: 0 closed, 1 half open, 2 open", ["call"])
_build = Gauge("taskwire_build_info", "1, with the version that runs", ["version"])

_logger = get_logger(__name__)
metrics_router = APIRouter(include_in_schema=False)


@metrics_router.get("/metrics")
def metrics() -> Response:
    """Give all metrics in the Prometheus text format."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def show_version(version: str) -> None:
    """Say which version runs, so that figures can be told apart by it."""
    _build.labels(version).set(1)


def with_series(counter: Counter, *values: str) -> Counter:
    """Begin the series of a counter that has one label at 0.

    Prometheus sees how much a series grows from its first sample on: without these, whatever came before the first
    scrape is in no rate and in no alert.

    Args:
        counter: With one label.
        values: All there are of it.
    """
    for value in values:
        counter.labels(value)
    return counter


class ObservedMiddleware:
    """Measures and logs every request, and turns what nobody caught into a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        with _in_flight.track_inprogress():
            try:
                await self._app(scope, receive, send_and_note)
            except Exception as error:  # the last door: whatever it is, the caller gets our error shape
                _logger.exception("request failed", method=scope["method"], route=route_of(scope))
                if status:
                    # An answer that breaks off is a failure, whatever it began with; unless it is the caller who left.
                    status = status if isinstance(error, ClientDisconnect) else _BROKEN_OFF
                    raise
                await internal_error_response()(scope, receive, send_and_note)
            finally:
                self._observe(scope, status or 499, time.perf_counter() - started)

    @staticmethod
    def _observe(scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        _requests.labels(_method_of(scope), route, str(status)).observe(seconds)
        if not scope["path"].startswith(_QUIET_PATHS) or status >= 500:  # noqa: PLR2004
            _logger.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                duration_ms=round(seconds * 1e3, 2),
            )


def _method_of(scope: Scope) -> str:
    """Give the method as a label; who makes up methods shall not make up time series, which are kept for ever."""
    return scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD


def route_of(scope: Scope) -> str:
    """Give the template of a request's route, for logs and metrics: the path itself may hold a credential."""
    template = getattr(scope.get("route"), "path", None)
    if not isinstance(template, str):
        return _UNMATCHED
    # A route of an included router knows its path without the prefix it was included under.
    mounted = scope["path"].startswith(API_PREFIX) and not template.startswith(API_PREFIX)
    return API_PREFIX + template if mounted else template
