"""The rules about tasks. Each change and its event are one transaction, committed before anyone is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import current_corr_id
from chassis.errors import ApiError, ForbiddenError, NotFoundError
from chassis.identity import Principal
from chassis.pagination import Page, cut_page, decode_cursor
from task_api.outbox.service import Outbox
from task_api.tasks.models import Task
from task_api.tasks.repository import TaskRepository
from task_api.tasks.schemas import TaskCreate, TaskPatch, TaskReplace
from task_api.tasks.terms import UNCONDITIONAL, Terms
from task_events import Actor, FieldChange, TaskEventData, TaskEventType, TaskSnapshot

_NOT_REPORTED: Final = {"id", "owner_id", "version", "created_at", "updated_at"}  # told by the event itself


class TaskNotFoundError(NotFoundError):
    """There is no such task, or it was deleted."""

    code = "task_not_found"


class TaskForbiddenError(ForbiddenError):
    """The task is someone else's."""

    code = "task_forbidden"


@dataclass(frozen=True)
class TaskFilter:
    """Which of one's own tasks to list."""

    completed: bool | None
    limit: int
    offset: int
    cursor: str | None
    total: bool


class TaskService:
    """What can be done with tasks, by whom."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def list_tasks(self, user: Principal, session: AsyncSession, wanted: TaskFilter) -> Page[Task]:
        """Give a page of the user's tasks, newest first.

        Raises:
            InvalidInputError: The cursor is none of ours.
        """
        tasks = TaskRepository(session)
        found = await tasks.page(
            owner_id=user.id,
            completed=wanted.completed,
            after_id=decode_cursor(wanted.cursor),
            offset=wanted.offset,
            limit=wanted.limit + 1,
        )
        total = await tasks.count(owner_id=user.id, completed=wanted.completed) if wanted.total else None
        return cut_page(found, limit=wanted.limit, position=lambda task: task.id, total=total)

    async def create_task(
        self, user: Principal, session: AsyncSession, draft: TaskCreate, terms: Terms = UNCONDITIONAL
    ) -> Task:
        """Create a task that belongs to the user."""
        task = new_task(user, draft, at=datetime.now(UTC))
        await TaskRepository(session).add(task)
        await self._add_event(user, session, TaskEventType.CREATED, before=None, task=task)
        return await self._commit(session, task, terms)

    async def get_task(self, user: Principal, session: AsyncSession, task_id: int) -> Task:
        """Give one of the user's tasks.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
        """
        tasks = TaskRepository(session)
        return await tasks.find(task_id, owner_id=user.id) or await _refuse(tasks, task_id)

    async def update_task(
        self,
        user: Principal,
        session: AsyncSession,
        task_id: int,
        update: TaskReplace | TaskPatch,
        terms: Terms = UNCONDITIONAL,
    ) -> Task:
        """Replace all that can be set, or merge what a patch names.

        A change that changes nothing makes no version and no event.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            PreconditionFailedError: It is not as the terms demand.
        """
        values = update.changes() if isinstance(update, TaskPatch) else update.model_dump()
        return await self._change(user, session, task_id, lambda _: values, terms)

    async def set_completed(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL, *, completed: bool
    ) -> Task:
        """Complete or reopen a task; doing it twice is the same as once.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            PreconditionFailedError: It is not as the terms demand.
        """
        return await self._change(user, session, task_id, lambda _: {"completed": completed}, terms)

    async def toggle_complete(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL
    ) -> Task:
        """Complete an open task, reopen a completed one.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            PreconditionFailedError: It is not as the terms demand.
        """
        return await self._change(user, session, task_id, lambda task: {"completed": not task.completed}, terms)

    async def delete_task(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL
    ) -> None:
        """Delete a task; its row stays for a later restore.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            PreconditionFailedError: It is not as the terms demand.
        """
        await self._change(user, session, task_id, lambda _: {"deleted_at": datetime.now(UTC)}, terms)

    async def restore_task(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL
    ) -> Task:
        """Bring a deleted task back as it was; one that is not deleted stays as it is.

        Raises:
            TaskNotFoundError: No such task; neither alive nor deleted.
            TaskForbiddenError: Someone else's.
            PreconditionFailedError: It is not as the terms demand.
        """
        return await self._change(user, session, task_id, lambda _: {"deleted_at": None}, terms, deleted=True)

    async def _change(
        self,
        user: Principal,
        session: AsyncSession,
        task_id: int,
        decide: Callable[[Task], Mapping[str, Any]],
        terms: Terms,
        *,
        deleted: bool = False,
    ) -> Task:
        """Lock, check, apply what `decide` says, and commit with the event; no event when nothing differs."""
        tasks = TaskRepository(session)
        task = await tasks.lock(task_id, owner_id=user.id, deleted=deleted)
        task = task or await _refuse(tasks, task_id, deleted=deleted)
        terms.check(task)
        before = task.snapshot()
        now = datetime.now(UTC)
        if apply(task, decide(task), at=now):
            await tasks.save(task, at=now)
            await self._add_event(user, session, event_type(before, task), before=before, task=task)
        return await self._commit(session, task, terms)

    async def _add_event(
        self,
        user: Principal,
        session: AsyncSession,
        kind: TaskEventType,
        *,
        before: TaskSnapshot | None,
        task: Task,
    ) -> None:
        await self._outbox.add(session, kind, event_data(user, before=before, task=task))

    async def _commit(self, session: AsyncSession, task: Task, terms: Terms) -> Task:
        await terms.before_commit(task)
        await session.commit()
        self._outbox.committed()
        return task


def new_task(user: Principal, draft: TaskCreate, *, at: datetime) -> Task:
    """Make a task of a draft; it gets its id when it is inserted."""
    return Task(owner_id=user.id, created_at=at, updated_at=at, **draft.model_dump())


def apply(task: Task, values: Mapping[str, Any], *, at: datetime) -> bool:
    """Set fields of a task, and what follows from them; False when nothing differs."""
    before = task.snapshot()
    for name, value in values.items():
        setattr(task, name, value)
    if task.completed != before.completed:
        task.completed_at = at if task.completed else None
    return task.snapshot() != before


async def _refuse(tasks: TaskRepository, task_id: int, *, deleted: bool = False) -> Task:
    raise refusal(task_id, exists=await tasks.exists(task_id, deleted=deleted))


def refusal(task_id: int, *, exists: bool) -> ApiError:
    """Say why the user cannot have a task that is not among their own."""
    if exists:
        return TaskForbiddenError(f"Task {task_id} belongs to someone else.")
    return TaskNotFoundError(f"There is no task {task_id}.")


def event_type(before: TaskSnapshot, task: Task) -> TaskEventType:
    """Name a change by what matters most about it."""
    if task.deleted_at is not None:
        return TaskEventType.DELETED
    if before.deleted_at is not None:
        return TaskEventType.RESTORED
    if task.completed == before.completed:
        return TaskEventType.UPDATED
    return TaskEventType.COMPLETED if task.completed else TaskEventType.REOPENED


def event_data(user: Principal, *, before: TaskSnapshot | None, task: Task) -> TaskEventData:
    """Say what a change was, from the task before (None at creation) and after it."""
    after = task.snapshot()
    return TaskEventData(
        task=after,
        changes=_changes(before, after),
        actor=Actor(id=user.id),
        occurred_at=task.updated_at,
        corr_id=current_corr_id(),
    )


def _changes(before: TaskSnapshot | None, after: TaskSnapshot) -> dict[str, FieldChange]:
    new = after.model_dump(mode="json", exclude=_NOT_REPORTED)
    old = before.model_dump(mode="json", exclude=_NOT_REPORTED) if before else dict.fromkeys(new)
    return {name: FieldChange(old=old[name], new=value) for name, value in new.items() if old[name] != value}
