"""`/api/v1/tasks`: parse, guard, one call, one answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.pagination import MAX_BIGINT, Page
from task_api.tasks.auth import TaskRead, TaskWrite
from task_api.tasks.list_parameters import get_listing
from task_api.tasks.listing import TaskListing
from task_api.tasks.schemas import TaskCreate, TaskMove, TaskOut, TaskPatch, TaskReplace
from task_api.tasks.service import TaskForbiddenError, TaskNotFoundError, TaskService

_ONE = documented(TaskForbiddenError, TaskNotFoundError)

router = APIRouter(prefix="/tasks", tags=["tasks"])


def get_task_service(request: Request) -> TaskService:
    """Give a route the rules."""
    service: TaskService = request.app.state.task_service
    return service


Tasks = Annotated[TaskService, Depends(get_task_service)]
TaskId = Annotated[int, Path(ge=1, le=MAX_BIGINT)]


@router.post("", status_code=status.HTTP_201_CREATED, summary="Create a task")
async def create_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, draft: TaskCreate, response: Response, request: Request
) -> TaskOut:
    """Create a task that belongs to the caller."""
    task = await tasks.create_task(user, session, draft)
    response.headers["Location"] = f"{request.url.path.rstrip('/')}/{task.id}"
    return TaskOut.model_validate(task)


@router.get("", summary="List one's own tasks")
async def list_tasks(
    user: TaskRead, session: DbSession, tasks: Tasks, wanted: Annotated[TaskListing, Depends(get_listing)]
) -> Page[TaskOut]:
    """List the caller's tasks: those that match every filter, newest first unless `sort` says otherwise."""
    return (await tasks.list_tasks(user, session, wanted)).map(TaskOut.model_validate)


@router.get("/{task_id}", summary="Get a task", responses=_ONE)
async def get_task(user: TaskRead, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Get one of the caller's tasks."""
    return TaskOut.model_validate(await tasks.get_task(user, session, task_id))


@router.put("/{task_id}", summary="Replace a task", responses=_ONE)
async def replace_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, update: TaskReplace
) -> TaskOut:
    """Replace all that can be set; a body that leaves a field out is refused instead of wiping it."""
    return TaskOut.model_validate(await tasks.update_task(user, session, task_id, update))


@router.patch("/{task_id}", summary="Change a task", responses=_ONE)
async def patch_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, update: TaskPatch) -> TaskOut:
    """Change the fields that the body names (RFC 7396) and no other."""
    return TaskOut.model_validate(await tasks.update_task(user, session, task_id, update))


@router.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a task", responses=_ONE)
async def delete_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> None:
    """Delete one of the caller's tasks."""
    await tasks.delete_task(user, session, task_id)


@router.post("/{task_id}/toggle", summary="Complete an open task, reopen a completed one", responses=_ONE)
async def toggle_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Flip `completed`; not idempotent, for that use `complete` and `reopen`."""
    return TaskOut.model_validate(await tasks.toggle_complete(user, session, task_id))


@router.post("/{task_id}/move", summary="Give a task another place in one's own order", responses=_ONE)
async def move_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, move: TaskMove) -> TaskOut:
    """Put a task right after or right before another one; lists show it with `sort=position`."""
    return TaskOut.model_validate(await tasks.move_task(user, session, task_id, move))


@router.post("/{task_id}/complete", summary="Complete a task", responses=_ONE)
async def complete_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Complete a task; doing it again changes nothing."""
    return TaskOut.model_validate(await tasks.set_completed(user, session, task_id, completed=True))


@router.post("/{task_id}/reopen", summary="Reopen a task", responses=_ONE)
async def reopen_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Reopen a task; doing it again changes nothing."""
    return TaskOut.model_validate(await tasks.set_completed(user, session, task_id, completed=False))
