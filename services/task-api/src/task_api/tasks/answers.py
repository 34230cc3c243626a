"""How the routes of one task read the conditions of a request, and make its answer."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from starlette.responses import Response

from chassis.errors import ApiError, documented
from task_api.idempotency.dependencies import Answered, Answering, response_of
from task_api.idempotency.service import Answer, KeyReusedError, RequestInProgressError
from task_api.tasks.conditions import PreconditionFailedError, Preconditions, etag_of, read_tags
from task_api.tasks.models import Task
from task_api.tasks.schemas import TaskOut

_JSON: Final = "application/json"
_ETAG_HEADER: Final = {
    "ETag": {
        "description": "Names this version of the task; for `If-Match` and `If-None-Match`",
        "schema": {"type": "string", "examples": ['"7-3"']},
    }
}
REPLAYED_HEADERS: Final = {
    "Idempotent-Replayed": {
        "description": "`true` when this is the answer that an earlier request with the same `Idempotency-Key` got",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
_LOCATION_HEADER: Final = {"Location": {"description": "Path of the task", "schema": {"type": "string"}}}

SHOWS_TASK: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The task", "headers": _ETAG_HEADER},
    304: {"description": "The task is as `If-None-Match` says the caller has it", "headers": _ETAG_HEADER},
    **documented(PreconditionFailedError),
}


def keyed(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """Declare what a write may raise: for its key, and these."""
    return documented(RequestInProgressError, KeyReusedError, *errors)


KEYED: Final = keyed()
CHANGES_TASK: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The task as it is now", "headers": _ETAG_HEADER | REPLAYED_HEADERS},
    **documented(PreconditionFailedError),
    **KEYED,
}
CREATES_TASK: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "The new task", "headers": _LOCATION_HEADER | _ETAG_HEADER | REPLAYED_HEADERS},
    **KEYED,
}
DELETES_TASK: Final[dict[int | str, dict[str, Any]]] = {
    204: {"description": "The task is deleted", "headers": REPLAYED_HEADERS},
    **documented(PreconditionFailedError),
    **KEYED,
}


def get_conditions(
    request: Request,
    if_match: Annotated[
        str | None,
        Header(alias="If-Match", description="`ETag` that it must have, else 412", examples=['"7-3"']),
    ] = None,
    if_none_match: Annotated[
        str | None,
        Header(alias="If-None-Match", description="`ETag` that it must not have", examples=['"7-3"']),
    ] = None,
) -> Preconditions:
    """Read the conditions of a request; both headers are lists and may come on several lines."""
    del if_match, if_none_match  # declared for the OpenAPI document: the framework reads one line only
    return Preconditions(
        if_match=read_tags("If-Match", request.headers.getlist("If-Match")),
        if_none_match=read_tags("If-None-Match", request.headers.getlist("If-None-Match")),
    )


Conditions = Annotated[Preconditions, Depends(get_conditions)]


class Write:
    """One write to one task: its conditions, and its answer, which is fixed before the commit."""

    def __init__(self, path: str, status: int, conditions: Preconditions, answering: Answering) -> None:
        self._path, self._status = path, status
        self._conditions, self._answering = conditions, answering

    def check(self, task: Task) -> None:
        """See `task_api.tasks.terms.Terms`."""
        self._conditions.check_write(etag_of(task.id, task.version))

    async def before_commit(self, task: Task) -> None:
        """See `task_api.tasks.terms.Terms`."""
        await self._answering.keep(_answer(task, self._status, self._path))

    def response(self) -> Response:
        """Give the answer, after the commit."""
        return self._answering.response()


def _answer(task: Task, status: int, path: str) -> Answer:
    if status == HTTPStatus.NO_CONTENT:
        return Answer(status, {}, b"")
    headers = {"ETag": etag_of(task.id, task.version), "Content-Type": _JSON}
    if status == HTTPStatus.CREATED:
        headers["Location"] = f"{path.rstrip('/')}/{task.id}"
    return Answer(status, headers, TaskOut.model_validate(task).model_dump_json().encode())


def shown(task: Task, conditions: Preconditions) -> Response:
    """Show a task to a reader, or say that the reader has it already."""
    etag = etag_of(task.id, task.version)
    if conditions.is_fresh(etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return response_of(_answer(task, HTTPStatus.OK, ""))


def writing(status: HTTPStatus) -> Callable[..., Write]:
    """Make the dependency of a route that answers with `status`."""

    def get_write(request: Request, conditions: Conditions, answering: Answered) -> Write:
        return Write(request.url.path, status, conditions, answering)

    return get_write


def get_creation(request: Request, answering: Answered) -> Write:
    """Give the write of a new task, of which no caller can have seen a version."""
    return Write(request.url.path, HTTPStatus.CREATED, Preconditions(), answering)


Creation = Annotated[Write, Depends(get_creation)]
Change = Annotated[Write, Depends(writing(HTTPStatus.OK))]
Deletion = Annotated[Write, Depends(writing(HTTPStatus.NO_CONTENT))]
