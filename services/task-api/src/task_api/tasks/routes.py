"""`/api/v1/tasks`: parse, guard, one call, one answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status

from chassis.database import DbSession
from chassis.errors import documented
from chassis.pagination import MAX_BIGINT, CursorParameter, Page
from task_api.tasks.auth import TaskRead, TaskWrite
from task_api.tasks.schemas import TaskCreate, TaskOut, TaskPatch, TaskReplace
from task_api.tasks.service import TaskFilter, TaskForbiddenError, TaskNotFoundError, TaskService

_ONE = documented(TaskForbiddenError, TaskNotFoundError)

router = APIRouter(prefix="/tasks", tags=["tasks"])


def get_task_service(request: Request) -> TaskService:
    """Give a route the rules."""
    service: TaskService = request.app.state.task_service
    return service


def get_filter(
    completed: Annotated[bool | None, Query(description="only completed, or only open tasks")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="tasks on a page")] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000, description="tasks to leave out first")] = 0,
    cursor: CursorParameter = None,
    total: Annotated[bool, Query(description="count all matching tasks too")] = False,
) -> TaskFilter:
    """Read what a list request asks for."""
    return TaskFilter(completed=completed, limit=limit, offset=offset, cursor=cursor, total=total)


Tasks = Annotated[TaskService, Depends(get_task_service)]
TaskId = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[7])]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Create a task",
    response_description="The task",
    responses={201: {"headers": {"Location": {"description": "its address", "schema": {"type": "string"}}}}},
)
async def create_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, draft: TaskCreate, response: Response, request: Request
) -> TaskOut:
    """Create a task that belongs to the caller."""
    task = await tasks.create_task(user, session, draft)
    response.headers["Location"] = f"{request.url.path.rstrip('/')}/{task.id}"
    return TaskOut.model_validate(task)


@router.get("", summary="List one's own tasks", response_description="One page of tasks, newest first")
async def list_tasks(
    user: TaskRead, session: DbSession, tasks: Tasks, wanted: Annotated[TaskFilter, Depends(get_filter)]
) -> Page[TaskOut]:
    """List the caller's tasks, newest first."""
    return (await tasks.list_tasks(user, session, wanted)).map(TaskOut.model_validate)


@router.get("/{task_id}", summary="Get a task", response_description="The task", responses=_ONE)
async def get_task(user: TaskRead, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Get one of the caller's tasks."""
    return TaskOut.model_validate(await tasks.get_task(user, session, task_id))


@router.put("/{task_id}", summary="Replace a task", response_description="The task after it", responses=_ONE)
async def replace_task(
    user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, update: TaskReplace
) -> TaskOut:
    """Replace all that can be set; a body that leaves a field out is refused instead of wiping it."""
    return TaskOut.model_validate(await tasks.update_task(user, session, task_id, update))


@router.patch("/{task_id}", summary="Change a task", response_description="The task after it", responses=_ONE)
async def patch_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId, update: TaskPatch) -> TaskOut:
    """Change the fields that the body names (RFC 7396) and no other."""
    return TaskOut.model_validate(await tasks.update_task(user, session, task_id, update))


@router.delete("/{task_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a task", responses=_ONE)
async def delete_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> None:
    """Delete one of the caller's tasks."""
    await tasks.delete_task(user, session, task_id)


@router.post(
    "/{task_id}/toggle",
    summary="Complete an open task, reopen a completed one",
    response_description="The task after it",
    responses=_ONE,
)
async def toggle_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Flip `completed`; not idempotent, for that use `complete` and `reopen`."""
    return TaskOut.model_validate(await tasks.toggle_complete(user, session, task_id))


@router.post("/{task_id}/complete", summary="Complete a task", response_description="The task after it", responses=_ONE)
async def complete_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Complete a task; doing it again changes nothing."""
    return TaskOut.model_validate(await tasks.set_completed(user, session, task_id, completed=True))


@router.post("/{task_id}/reopen", summary="Reopen a task", response_description="The task after it", responses=_ONE)
async def reopen_task(user: TaskWrite, session: DbSession, tasks: Tasks, task_id: TaskId) -> TaskOut:
    """Reopen a task; doing it again changes nothing."""
    return TaskOut.model_validate(await tasks.set_completed(user, session, task_id, completed=False))
