"""`/api/v1/tasks/quick-add`: parse, guard, one call, one answer."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from chassis.paths import API_PREFIX
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.idempotency.dependencies import Answered
from task_api.quick_add.auth import QuickAddUse
from task_api.quick_add.schemas import QuickAddCreate, QuickAddIn, QuickAddOut
from task_api.quick_add.service import QuickAdd
from task_api.tasks.answers import CREATES_TASK, Write
from task_api.tasks.conditions import Preconditions
from task_api.tasks.schemas import TaskOut

_TASKS: Final = API_PREFIX + "/tasks"

router = APIRouter(prefix="/tasks/quick-add", tags=["tasks"], route_class=GuardedRoute)


def get_quick_add(request: Request) -> QuickAdd:
    """Give a route the rules."""
    quick_add: QuickAdd = request.app.state.quick_add
    return quick_add


def get_creation(answering: Answered) -> Write:
    """Give the write of a task whose address is not below that of the request."""
    return Write(_TASKS, HTTPStatus.CREATED, Preconditions(), answering)


Adding = Annotated[QuickAdd, Depends(get_quick_add)]


@router.post("", summary="Read a task in plain words", response_description="What was understood, and where")
async def read_quick_add(user: QuickAddUse, adding: Adding, line: QuickAddIn) -> QuickAddOut:
    """Say which task a line of English describes, without creating it.

    Dates, times, recurrence, `#tags` and `!priority` are taken out of the line; what is not understood is the title.
    """
    return QuickAddOut.of(line.text, await adding.read(user, line))


@router.post(
    "/create",
    status_code=status.HTTP_201_CREATED,
    summary="Create a task from plain words",
    response_model=TaskOut,
    responses=CREATES_TASK | documented(EngagementForbiddenError, EngagementNotFoundError),
)
async def create_quick_add(
    user: QuickAddUse,
    session: DbSession,
    adding: Adding,
    line: QuickAddCreate,
    write: Annotated[Write, Depends(get_creation)],
) -> Response:
    """Create the task that a line of English describes; it belongs to the caller, or to an engagement."""
    await adding.create(user, session, line, write)
    return write.response()
