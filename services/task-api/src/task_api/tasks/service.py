"""The rules about tasks. Each change and its event are one transaction, committed before anyone is told."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.correlation import current_corr_id
from chassis.errors import ForbiddenError, NotFoundError
from chassis.identity import Principal
from chassis.pagination import Page
from task_api.outbox.service import Outbox
from task_api.tasks.consequences import Change, check_recurrence, come_again, merged, take_along
from task_api.tasks.cursors import CursorSeal
from task_api.tasks.listing import TaskListing, keys_of
from task_api.tasks.models import Task
from task_api.tasks.ordering import InvalidMoveError, position_at, position_between
from task_api.tasks.repository import TaskRepository
from task_api.tasks.schemas import TaskCreate, TaskMove, TaskPatch, TaskReplace
from task_api.tasks.subtasks import Subtasks
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
        check_recurrence(task, now=now)
        if task.parent_id is not None:
            subtasks = Subtasks(session, user.id)
            await subtasks.hold_structure()
            await subtasks.check_parent(task.parent_id, task_id=None)
        await TaskRepository(session).add(task)
        await self._commit_with_events(user, session, [Change(None, task)])
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
        if values.get("parent_id") is not None:
            await Subtasks(session, user.id).hold_structure()
        return await self._change(user, session, task_id, lambda task: merged(task, values))

    async def move_task(self, user: Principal, session: AsyncSession, task_id: int, move: TaskMove) -> Task:
        """Give a task another place in its owner's order, right before or right after another one.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            InvalidMoveError: The other task is not there, or there is no room.
        """
        tasks = TaskRepository(session)
        field, other_id = ("after", move.after) if move.after is not None else ("before", move.before)
        if other_id is None:
            raise InvalidMoveError(field, "must name a task")
        # Both are held, the one of the smaller id first: who moves something there too waits and then sees this move.
        held = {each: await tasks.lock(each, owner_id=user.id) for each in sorted((task_id, other_id))}
        other = held[other_id]
        if held[task_id] is None:
            await _refuse(tasks, task_id)
        if other is None or other_id == task_id:
            raise InvalidMoveError(field, "must be the id of another own task")
        above = field == "before"
        next_one = await tasks.neighbour(other, owner_id=user.id, leave_out=task_id, above=above)
        low, high = (next_one, other.position) if above else (other.position, next_one)
        try:
            position = position_between(low, high, now=datetime.now(UTC))
        except ValueError as error:
            raise InvalidMoveError(field, f"leaves no room: {error}; move that task first") from error
        return await self._change(user, session, task_id, lambda _: {"position": position})

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
        changes = [Change(before, task), *await self._consequences(user, session, before, task, now)]
        await self._commit_with_events(user, session, changes)
        return task

    @staticmethod
    async def _consequences(
        user: Principal, session: AsyncSession, before: TaskSnapshot, task: Task, now: datetime
    ) -> list[Change]:
        """Check what a changed task asks for, write it, and do what follows from it."""
        tasks, subtasks = TaskRepository(session), Subtasks(session, user.id)
        changed = _changes(before, task.snapshot()).keys()
        if task.parent_id is not None and "parent_id" in changed:
            with session.no_autoflush:  # first it is looked at, then written
                await subtasks.check_parent(task.parent_id, task_id=before.id)
        if task.completed and not before.completed:
            upcoming = come_again(task, at=now)
        else:
            upcoming = None
            if not changed.isdisjoint({"recurrence", "due_at"}):
                check_recurrence(task, now=now)
        further = await take_along(subtasks, before, task, at=now)
        await tasks.save(task, at=now)
        if upcoming is None:
            return further
        await tasks.add(upcoming)
        return [*further, Change(None, upcoming)]

    async def _commit_with_events(self, user: Principal, session: AsyncSession, changes: Sequence[Change]) -> None:
        """Commit changes with an event for each; what was changed first is told first."""
        for change in changes:
            after = change.task.snapshot()
            data = TaskEventData(
                task=after,
                changes=_changes(change.before, after),
                actor=Actor(id=user.id),
                occurred_at=change.task.updated_at,
                corr_id=current_corr_id(),
            )
            await self._outbox.add(session, _event_type(change.before, change.task), data)
        await session.commit()
        self._outbox.committed()


async def _refuse(tasks: TaskRepository, task_id: int) -> Task:
    if await tasks.exists(task_id):
        raise TaskForbiddenError(f"Task {task_id} belongs to someone else.")
    raise TaskNotFoundError(f"There is no task {task_id}.")


def _event_type(before: TaskSnapshot | None, task: Task) -> TaskEventType:
    if before is None:
        return TaskEventType.CREATED
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
