"""Liveness and readiness.

Live means: the process answers; a restart would not help with anything else. Ready means: a request can
be served now. What task changes do not need (Kafka, the sidecar) is no part of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from chassis.correlation import current_request_id
from chassis.database import Database, applied_revision
from chassis.errors import MEDIA_TYPE, ApiError, UnavailableError, add_documented_error, documented_error
from chassis.migrations import missing_revision

CHECK_TIMEOUT: Final = 3.0
Check = Callable[[], Awaitable[None]]

health_router = APIRouter(prefix="/health", tags=["health"])


class NotReadyError(Exception):
    """A check failed; the message says what is missing and what to do."""


class Health(BaseModel):
    """What a probe gets."""

    status: Annotated[Literal["live", "ready"], Field(description="what was asked")]
    checks: Annotated[dict[str, str], Field(description="each check and its outcome")]


_ALIVE: Final = Health(status="live", checks={})
_SERVING: Final = Health(status="ready", checks={"database": "ok"})
_NOT_READY: Final = documented_error(503)
add_documented_error(
    _NOT_READY,
    503,
    "not_ready",
    "A check failed; the member `checks` names each check and its outcome.",
    UnavailableError.documented_headers,
)


def _shown(example: Health) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example.model_dump()}}}}


@health_router.get("/live", summary="Is the process alive?", response_description="It is", responses=_shown(_ALIVE))
async def live() -> Health:
    """Answer as long as the event loop turns."""
    return _ALIVE


@health_router.get(
    "/ready",
    summary="Can requests be served?",
    response_description="They can",
    response_model=Health,
    responses=_shown(_SERVING) | {503: _NOT_READY},
)
async def ready(request: Request) -> Response:
    """Run every check of this service; 503 names those that failed and why."""
    checks: dict[str, Check] = request.app.state.readiness
    found = dict(zip(checks, await asyncio.gather(*map(_outcome, checks.values())), strict=True))
    failed = {name: outcome for name, outcome in found.items() if outcome != "ok"}
    if not failed:
        return JSONResponse(Health(status="ready", checks=found).model_dump())
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "not ready: " + "; ".join(f"{name}: {why}" for name, why in failed.items()),
        "code": "not_ready",
        "request_id": current_request_id(),
        "checks": found,
    }
    return JSONResponse(problem, status_code=503, media_type=MEDIA_TYPE, headers={"Retry-After": "1"})


def database_check(database: Database, package: str) -> Check:
    """Make the check that the database answers and has the schema this code needs."""

    async def check() -> None:
        revision = missing_revision(package, await applied_revision(database))
        if revision is not None:
            raise NotReadyError(f"schema is behind revision {revision}: run `python -m {package} migrate`")

    return check


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT:.0f} s"
    except ApiError as error:
        return error.detail
    except NotReadyError as error:
        return str(error)
    return "ok"
