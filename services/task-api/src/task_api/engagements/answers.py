"""How the routes of engagements read the conditions of a request, and make its answer."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from starlette.responses import Response

from chassis.errors import documented
from chassis.paths import API_PREFIX
from task_api.engagements.models import Engagement
from task_api.engagements.repository import Seen
from task_api.engagements.schemas import EngagementOut
from task_api.engagements.terms import Terms
from task_api.idempotency.dependencies import Answering, response_of
from task_api.idempotency.service import Answer
from task_api.tasks.answers import REPLAYED_HEADERS, keyed
from task_api.tasks.conditions import PreconditionFailedError, Preconditions, etag_of

_WHAT: Final = "engagement"
_JSON: Final = {"Content-Type": "application/json"}
_ETAG_HEADER: Final = {
    "ETag": {
        "description": "Names this version of the engagement; for `If-Match` and `If-None-Match`",
        "schema": {"type": "string", "examples": ['"5-1"']},
    }
}
_LOCATION_HEADER: Final = {"Location": {"description": "Path of the engagement", "schema": {"type": "string"}}}
_CONDITIONAL: Final = documented(PreconditionFailedError)
Result = TypeVar("Result")

SHOWS_ENGAGEMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The engagement", "headers": _ETAG_HEADER},
    304: {"description": "The engagement is as `If-None-Match` says the caller has it", "headers": _ETAG_HEADER},
    **_CONDITIONAL,
}
RENAMES_ENGAGEMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The engagement as it is now", "headers": _ETAG_HEADER | REPLAYED_HEADERS},
    **_CONDITIONAL,
    **keyed(),
}
CREATES_ENGAGEMENT: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "The new engagement", "headers": _LOCATION_HEADER | _ETAG_HEADER | REPLAYED_HEADERS}
}


def done(description: str, status: HTTPStatus = HTTPStatus.OK) -> dict[int | str, dict[str, Any]]:
    """Declare the answer to a write that was done."""
    return {status.value: {"description": description, "headers": REPLAYED_HEADERS}}


def showing_engagement(
    answering: Answering, status: HTTPStatus = HTTPStatus.OK, conditions: Preconditions | None = None
) -> Terms[Seen]:
    """Make the terms of a write that is answered with the engagement."""

    async def keep(seen: Seen) -> None:
        await answering.keep(_engagement_answer(seen, status))

    return Terms(_check(conditions), keep)


def showing(answering: Answering, show: Callable[[Result], BaseModel]) -> Terms[Result]:
    """Make the terms of a write that is answered with what came of it."""

    async def keep(result: Result) -> None:
        await answering.keep(_answer(HTTPStatus.OK, show(result)))

    return Terms(_check(None), keep)


def showing_nothing(answering: Answering, conditions: Preconditions | None = None) -> Terms[None]:
    """Make the terms of a write that is answered with 204."""

    async def keep(_: None) -> None:
        await answering.keep(Answer(HTTPStatus.NO_CONTENT, {}, b""))

    return Terms(_check(conditions), keep)


def shown(seen: Seen, conditions: Preconditions) -> Response:
    """Show an engagement to a reader, or say that the reader has it already."""
    etag = etag_of(seen.engagement.id, seen.engagement.version)
    if conditions.is_fresh(etag, what=_WHAT):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return response_of(_engagement_answer(seen, HTTPStatus.OK))


def _check(conditions: Preconditions | None) -> Callable[[Engagement], None]:
    def check(engagement: Engagement) -> None:
        if conditions is not None:
            conditions.check_write(etag_of(engagement.id, engagement.version), what=_WHAT)

    return check


def _engagement_answer(seen: Seen, status: HTTPStatus) -> Answer:
    headers = {"ETag": etag_of(seen.engagement.id, seen.engagement.version)}
    if status == HTTPStatus.CREATED:
        headers["Location"] = f"{API_PREFIX}/engagements/{seen.engagement.id}"
    return _answer(status, EngagementOut.of(*seen), headers)


def _answer(status: HTTPStatus, body: BaseModel, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {**(headers or {}), **_JSON}, body.model_dump_json().encode())
