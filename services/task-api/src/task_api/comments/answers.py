"""How the routes of comments read the conditions of a request, and make its answer."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.responses import Response

from chassis.errors import ApiError, documented
from chassis.paths import API_PREFIX
from task_api.comments.models import Comment
from task_api.comments.schemas import CommentOut
from task_api.idempotency.dependencies import Answered, Answering, response_of
from task_api.idempotency.service import Answer
from task_api.tasks.answers import REPLAYED_HEADERS, Conditions, keyed
from task_api.tasks.conditions import PreconditionFailedError, Preconditions, etag_of

_WHAT: Final = "comment"
_ETAG_HEADER: Final = {
    "ETag": {
        "description": "Names this version of the comment; for `If-Match` and `If-None-Match`",
        "schema": {"type": "string", "examples": ['"3-1"']},
    }
}
_LOCATION_HEADER: Final = {"Location": {"description": "Path of the comment", "schema": {"type": "string"}}}
_CONDITIONAL: Final = documented(PreconditionFailedError)

SHOWS_COMMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The comment", "headers": _ETAG_HEADER},
    304: {"description": "The comment is as `If-None-Match` says the caller has it", "headers": _ETAG_HEADER},
    **_CONDITIONAL,
}
EDITS_COMMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The comment as it is now", "headers": _ETAG_HEADER | REPLAYED_HEADERS},
    **_CONDITIONAL,
    **keyed(),
}
DELETES_COMMENT: Final[dict[int | str, dict[str, Any]]] = {
    204: {"description": "The comment is deleted", "headers": REPLAYED_HEADERS},
    **_CONDITIONAL,
    **keyed(),
}


def creates_comment(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """Declare the answers to a new comment: for its key, and these."""
    headers = _LOCATION_HEADER | _ETAG_HEADER | REPLAYED_HEADERS
    return {201: {"description": "The new comment", "headers": headers}, **keyed(*errors)}


class Write:
    """One write of one comment: its conditions, and its answer, which is fixed before the commit."""

    def __init__(self, status: int, conditions: Preconditions, answering: Answering) -> None:
        self._status, self._conditions, self._answering = status, conditions, answering

    def check(self, comment: Comment) -> None:
        """See `task_api.comments.service.CommentTerms`."""
        self._conditions.check_write(etag_of(comment.id, comment.version), what=_WHAT)

    async def before_commit(self, comment: Comment) -> None:
        """See `task_api.comments.service.CommentTerms`."""
        await self._answering.keep(_answer(comment, self._status))

    def response(self) -> Response:
        """Give the answer, after the commit."""
        return self._answering.response()


def _answer(comment: Comment, status: int) -> Answer:
    if status == HTTPStatus.NO_CONTENT:
        return Answer(status, {}, b"")
    headers = {"ETag": etag_of(comment.id, comment.version), "Content-Type": "application/json"}
    if status == HTTPStatus.CREATED:
        headers["Location"] = f"{API_PREFIX}/comments/{comment.id}"
    return Answer(status, headers, CommentOut.model_validate(comment).model_dump_json().encode())


def shown(comment: Comment, conditions: Preconditions) -> Response:
    """Show a comment to a reader, or say that the reader has it already."""
    etag = etag_of(comment.id, comment.version)
    if conditions.is_fresh(etag, what=_WHAT):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return response_of(_answer(comment, HTTPStatus.OK))


def writing(status: HTTPStatus) -> Callable[..., Write]:
    """Make the dependency of a route that answers with `status`."""

    def get_write(conditions: Conditions, answering: Answered) -> Write:
        return Write(status, conditions, answering)

    return get_write


def get_creation(answering: Answered) -> Write:
    """Give the write of a new comment, of which no caller can have seen a version."""
    return Write(HTTPStatus.CREATED, Preconditions(), answering)


Creation = Annotated[Write, Depends(get_creation)]
Edit = Annotated[Write, Depends(writing(HTTPStatus.OK))]
Deletion = Annotated[Write, Depends(writing(HTTPStatus.NO_CONTENT))]
