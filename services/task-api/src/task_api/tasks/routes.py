"""`/api/v1/tasks`: parse, guard, one call, one answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.identity import GuardedRoute
from chassis.pagination import MAX_BIGINT, Page
from task_api.engagements.access import EngagementForbiddenError, EngagementNotFoundError
from task_api.tasks.answers import (
    CHANGES_TASK,
    CREATES_TASK,
    DELETES_TASK,
    SHOWS_TASK,
    Change,
    Conditions,
    Creation,
    Deletion,
    keyed,
    shown,
)
from task_api.tasks.auth import TaskRead, TaskWrite
from task_api.tasks.consequences import InvalidRecurrenceError
from task_api.tasks.cursors import CursorMismatchError, InvalidCursorError
from task_api.tasks.list_parameters import get_listing
from task_api.tasks.listing import TaskListing
from task_api.tasks.ordering import InvalidMoveError
from task_api.tasks.schemas import TaskCreate, TaskMove, TaskOut, TaskPatch, TaskReplace
from task_api.tasks.service import TaskForbiddenError, TaskNotFoundError, TaskService
from task_api.tasks.subtasks import InvalidParentError

_ONE = documented(TaskForbiddenError, TaskNotFoundError)
_WRITTEN = documented(TaskForbiddenError, EngagementForbiddenError, TaskNotFoundError)
_CHANGED = _WRITTEN | CHANGES_TASK
_IN_ENGAGEMENT = documented(EngagementForbiddenError, EngagementNotFoundError)
_MADE_INVALID = keyed(InvalidParentError, InvalidRecurrenceError)

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=GuardedRoute)


def get_task_service(request: Request) -> TaskService:
    """Give a route the rules."""
    service: TaskService = request.app.state.task_service
    return service


Tasks = Annotated[TaskService, Depends(get_task_service)]
TaskId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[7])]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Create a task",
    response_model=TaskOut,
    responses=CREATES_TASK | _IN_ENGAGEMENT | _MADE_INVALID,
)
async def create_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, draft: TaskCreate, write: Creation
) -> Response:
    """Create a task that belongs to the caller, or to an engagement, where it stays."""
    await tasks.create_task(user, session, draft, write)
    return write.response()


@router.get(
    "",
    summary="List one's own tasks",
    response_description="One page of tasks",
    responses=_IN_ENGAGEMENT | documented(InvalidCursorError, CursorMismatchError),
)
async def list_tasks(
    user: TaskRead, session: DbSession, tasks: Tasks, wanted: Annotated[TaskListing, Depends(get_listing)]
) -> Page[TaskOut]:
    """List the caller's tasks, or an engagement's: those that match every filter, newest first without `sort`."""
    return (await tasks.list_tasks(user, session, wanted)).map(TaskOut.model_validate)


@router.get("/{task_id}", summary="Get a task", response_model=TaskOut, responses=_ONE | SHOWS_TASK)
async def get_task(
    user: TaskRead, session: DbSession, tasks: Tasks, task_id: TaskId, conditions: Conditions
) -> Response:
    """Get one of the caller's tasks, or one in an engagement that they are in."""
    return shown(await tasks.get_task(user, session, task_id), conditions)


@router.put("/{task_id}", summary="Replace a task", response_model=TaskOut, responses=_CHANGED | _MADE_INVALID)
async def replace_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, update: TaskReplace, write: Change
) -> Response:
    """Replace all that can be set; a body that leaves a field out is refused instead of wiping it."""
    await tasks.update_task(user, session, task_id, update, write)
    return write.response()


@router.patch("/{task_id}", summary="Change a task", response_model=TaskOut, responses=_CHANGED | _MADE_INVALID)
async def patch_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, update: TaskPatch, write: Change
) -> Response:
    """Change the fields that the body names (RFC 7396) and no other."""
    await tasks.update_task(user, session, task_id, update, write)
    return write.response()


@router.delete(
    "/{task_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a task", responses=_WRITTEN | DELETES_TASK
)
async def delete_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, write: Deletion) -> Response:
    """Delete one of the caller's tasks; `restore` brings it back."""
    await tasks.delete_task(user, session, task_id, write)
    return write.response()


@router.post(
    "/{task_id}/toggle",
    summary="Complete an open task, reopen a completed one",
    response_model=TaskOut,
    responses=_CHANGED,
)
async def toggle_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, write: Change) -> Response:
    """Flip `completed`; not idempotent without an `Idempotency-Key`, for that use `complete` and `reopen`."""
    await tasks.toggle_complete(user, session, task_id, write)
    return write.response()


@router.post(
    "/{task_id}/move",
    summary="Give a task another place in one's own order",
    response_model=TaskOut,
    responses=_CHANGED | keyed(InvalidMoveError),
)
async def move_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, move: TaskMove, write: Change
) -> Response:
    """Put a task right after or right before another one; lists show it with `sort=position`."""
    await tasks.move_task(user, session, task_id, move, write)
    return write.response()


@router.post("/{task_id}/complete", summary="Complete a task", response_model=TaskOut, responses=_CHANGED)
async def complete_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, write: Change) -> Response:
    """Complete a task; doing it again changes nothing."""
    await tasks.set_completed(user, session, task_id, write, completed=True)
    return write.response()


@router.post("/{task_id}/reopen", summary="Reopen a task", response_model=TaskOut, responses=_CHANGED)
async def reopen_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, write: Change) -> Response:
    """Reopen a task; doing it again changes nothing."""
    await tasks.set_completed(user, session, task_id, write, completed=False)
    return write.response()


@router.post(
    "/{task_id}/restore",
    summary="Restore a deleted task",
    response_model=TaskOut,
    responses=_CHANGED | keyed(InvalidParentError),
)
async def restore_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, write: Change) -> Response:
    """Bring a deleted task back as it was; doing it again, or to a task that is not deleted, changes nothing."""
    await tasks.restore_task(user, session, task_id, write)
    return write.response()
