"""`/api/v1/tasks/bulk`: many changes in one request."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Request
from starlette.responses import Response

from chassis.database import DbSession
from chassis.identity import GuardedRoute
from task_api.idempotency.dependencies import Answered
from task_api.idempotency.service import Answer
from task_api.tasks.answers import KEYED, REPLAYED_HEADERS
from task_api.tasks.auth import TaskWrite
from task_api.tasks.bulk import Outcome, TaskBulk
from task_api.tasks.bulk_schemas import EXAMPLE, BulkIn, BulkOut, BulkProblem, BulkResult

BULK_PATH: Final = "/tasks/bulk"

_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "One result for each operation, even if all failed", "headers": REPLAYED_HEADERS},
    **KEYED,
}

router = APIRouter(tags=["tasks"], route_class=GuardedRoute)


def get_bulk(request: Request) -> TaskBulk:
    """Give a route the rules."""
    bulk: TaskBulk = request.app.state.task_bulk
    return bulk


@router.post(
    BULK_PATH,
    summary="Do many things to tasks at once",
    response_model=BulkOut,
    responses=_RESPONSES,
)
async def bulk_tasks(
    user: TaskWrite,
    session: DbSession,
    bulk: Annotated[TaskBulk, Depends(get_bulk)],
    wanted: Annotated[BulkIn, Body(examples=[EXAMPLE])],
    answering: Answered,
) -> Response:
    """Create, update, complete, reopen, delete and restore up to 500 tasks, in the order given.

    An operation that is refused fails alone, and its result says why as its own request would have been told; what
    succeeds is committed together. The answer is 200 whenever the operations were processed: look at `failed`.
    """

    async def keep(outcomes: Sequence[Outcome]) -> None:
        await answering.keep(_answer(outcomes))

    await bulk.run(user, session, wanted.each(), keep)
    return answering.response()


def _answer(outcomes: Sequence[Outcome]) -> Answer:
    failed = sum(outcome.error is not None for outcome in outcomes)
    results = [_result(index, outcome) for index, outcome in enumerate(outcomes)]
    shown = BulkOut(results=results, succeeded=len(outcomes) - failed, failed=failed)
    return Answer(HTTPStatus.OK, {"Content-Type": "application/json"}, shown.model_dump_json().encode())


def _result(index: int, outcome: Outcome) -> BulkResult:
    error = outcome.error
    problem = BulkProblem(code=error.code, detail=error.detail, errors=error.errors) if error else None
    return BulkResult(index=index, status=outcome.status, id=outcome.id, task=outcome.task, error=problem)
