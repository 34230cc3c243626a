"""The rules about tasks. Each change and its event are one transaction, committed before anyone is told."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import current_corr_id
from chassis.errors import ForbiddenError, NotFoundError
from chassis.identity import Principal
from chassis.pagination import Page
from task_api.outbox.service import Outbox
from task_api.tasks.cursors import CursorSeal
from task_api.tasks.listing import TaskListing, keys_of
from task_api.tasks.models import Task
from task_api.tasks.ordering import position_at
from task_api.tasks.repository import TaskRepository
from task_api.tasks.schemas import TaskCreate, TaskPatch, TaskReplace
from task_events import Actor, FieldChange, TaskEventData, TaskEventType, TaskSnapshot

_NOT_REPORTED: Final = {"id", "owner_id", "version", "created_at", "updated_at"}  # told by the event itself


class TaskNotFoundError(NotFoundError):
    """There is no such task, or it was deleted."""

    code = "task_not_found"


class TaskForbiddenError(ForbiddenError):
    """The task is someone else's."""

    code = "task_forbidden"


class TaskService:
    """What can be done with tasks, by whom."""

    def __init__(self, outbox: Outbox, cursors: CursorSeal) -> None:
        self._outbox = outbox
        self._cursors = cursors

    async def list_tasks(self, user: Principal, session: AsyncSession, wanted: TaskListing) -> Page[Task]:
        """Give a page of the user's tasks.

        Raises:
            InvalidCursorError: The cursor is none of ours.
            CursorMismatchError: The cursor belongs to another list.
        """
        tasks, query, now = TaskRepository(session), wanted.query(), datetime.now(UTC)
        after = None if wanted.cursor is None else self._cursors.open(wanted.cursor, user_id=user.id, query=query)
        found = await tasks.page(user.id, wanted, after=after, now=now)
        total = await tasks.count(user.id, wanted.matching, now=now) if wanted.total else None
        shown, next_cursor = found[: wanted.limit], None
        if len(found) > wanted.limit:
            next_cursor = self._cursors.seal(keys_of(shown[-1]), user_id=user.id, query=query)
        return Page(items=[row[0] for row in shown], next_cursor=next_cursor, total=total)

    async def create_task(self, user: Principal, session: AsyncSession, draft: TaskCreate) -> Task:
        """Create a task that belongs to the user."""
        now = datetime.now(UTC)
        task = Task(owner_id=user.id, created_at=now, updated_at=now, position=position_at(now), **draft.model_dump())
        await TaskRepository(session).add(task)
        await self._commit_with_event(user, session, TaskEventType.CREATED, before=None, task=task)
        return task

    async def get_task(self, user: Principal, session: AsyncSession, task_id: int) -> Task:
        """Give one of the user's tasks.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
        """
        tasks = TaskRepository(session)
        return await tasks.find(task_id, owner_id=user.id) or await _refuse(tasks, task_id)

    async def update_task(
        self, user: Principal, session: AsyncSession, task_id: int, update: TaskReplace | TaskPatch
    ) -> Task:
        """Replace all that can be set, or merge what a patch names.

        A change that changes nothing makes no version and no event.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
        """
        values = update.changes() if isinstance(update, TaskPatch) else update.model_dump()
        return await self._change(user, session, task_id, lambda _: values)

    async def set_completed(self, user: Principal, session: AsyncSession, task_id: int, *, completed: bool) -> Task:
        """Complete or reopen a task; doing it twice is the same as once.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
        """
        return await self._change(user, session, task_id, lambda _: {"completed": completed})

    async def toggle_complete(self, user: Principal, session: AsyncSession, task_id: int) -> Task:
        """Complete an open task, reopen a completed one.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
        """
        return await self._change(user, session, task_id, lambda task: {"completed": not task.completed})

    async def delete_task(self, user: Principal, session: AsyncSession, task_id: int) -> None:
        """Delete a task; its row stays for a later restore.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
        """
        await self._change(user, session, task_id, lambda _: {"deleted_at": datetime.now(UTC)})

    async def _change(
        self,
        user: Principal,
        session: AsyncSession,
        task_id: int,
        decide: Callable[[Task], Mapping[str, Any]],
    ) -> Task:
        """Lock, apply what `decide` says, and commit with the event; nothing happens when nothing differs."""
        tasks = TaskRepository(session)
        task = await tasks.lock(task_id, owner_id=user.id) or await _refuse(tasks, task_id)
        before = task.snapshot()
        now = datetime.now(UTC)
        for name, value in decide(task).items():
            setattr(task, name, value)
        if task.completed != before.completed:
            task.completed_at = now if task.completed else None
        if task.snapshot() == before:
            return task
        await tasks.save(task, at=now)
        await self._commit_with_event(user, session, _event_type(before, task), before=before, task=task)
        return task

    async def _commit_with_event(
        self,
        user: Principal,
        session: AsyncSession,
        event_type: TaskEventType,
        *,
        before: TaskSnapshot | None,
        task: Task,
    ) -> None:
        after = task.snapshot()
        data = TaskEventData(
            task=after,
            changes=_changes(before, after),
            actor=Actor(id=user.id),
            occurred_at=task.updated_at,
            corr_id=current_corr_id(),
        )
        await self._outbox.add(session, event_type, data)
        await session.commit()
        self._outbox.committed()


async def _refuse(tasks: TaskRepository, task_id: int) -> Task:
    if await tasks.exists(task_id):
        raise TaskForbiddenError(f"Task {task_id} belongs to someone else.")
    raise TaskNotFoundError(f"There is no task {task_id}.")


def _event_type(before: TaskSnapshot, task: Task) -> TaskEventType:
    if task.deleted_at is not None:
        return TaskEventType.DELETED
    if task.completed == before.completed:
        return TaskEventType.UPDATED
    return TaskEventType.COMPLETED if task.completed else TaskEventType.REOPENED


def _changes(before: TaskSnapshot | None, after: TaskSnapshot) -> dict[str, FieldChange]:
    new = after.model_dump(mode="json", exclude=_NOT_REPORTED)
    nothing = dict.fromkeys(new) | {"tags": [], "position": new["position"]}  # a position is given, not set
    old = before.model_dump(mode="json", exclude=_NOT_REPORTED) if before else nothing
    return {name: FieldChange(old=old[name], new=value) for name, value in new.items() if old[name] != value}
