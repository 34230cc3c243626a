"""The rules about tasks. Each change and its event are one transaction, committed before anyone is told."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ApiError, ForbiddenError, NotFoundError
from chassis.identity import Principal
from chassis.pagination import Page
from task_api.engagements.access import EngagementForbiddenError, Recipients, enter, hold
from task_api.engagements.roles import Act
from task_api.engagements.spaces import Space, engagement_of
from task_api.outbox.service import Outbox
from task_api.tasks.consequences import Change, check_recurrence, consequences, merged
from task_api.tasks.cursors import ListCursors
from task_api.tasks.events import event_of
from task_api.tasks.listing import TaskListing, keys_of
from task_api.tasks.models import Task
from task_api.tasks.ordering import InvalidMoveError, position_at, position_between
from task_api.tasks.repository import Standing, TaskRepository
from task_api.tasks.retention import Retention
from task_api.tasks.schemas import TaskCreate, TaskMove, TaskPatch, TaskReplace
from task_api.tasks.subtasks import Subtasks, hold_structures, hold_structures_below
from task_api.tasks.terms import UNCONDITIONAL, Terms


class TaskNotFoundError(NotFoundError):
    """There is no such task, or it was deleted."""

    code = "task_not_found"


class TaskForbiddenError(ForbiddenError):
    """The task is someone else's, or in an engagement that the caller is not in."""

    code = "task_forbidden"


class TaskService:
    """What can be done with tasks, by whom."""

    def __init__(self, outbox: Outbox, cursors: ListCursors, retention: Retention) -> None:
        self._outbox = outbox
        self._cursors = cursors
        self._retention = retention

    async def list_tasks(self, user: Principal, session: AsyncSession, wanted: TaskListing) -> Page[Task]:
        """Give a page of the user's tasks, or of those in one engagement.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not in it.
            InvalidCursorError: The cursor is none of ours.
            CursorMismatchError: The cursor belongs to another list.
        """
        tasks, query, now = TaskRepository(session), wanted.query(), datetime.now(UTC)
        space = Space(user.id, wanted.matching.engagement_id)
        await enter(session, space)
        after = None if wanted.cursor is None else self._cursors.read(wanted.cursor, user_id=user.id, query=query)
        found = await tasks.page(space, wanted, after=after, now=now)
        total = await tasks.count(space, wanted.matching, now=now) if wanted.total else None
        shown, next_cursor = found[: wanted.limit], None
        if len(found) > wanted.limit:
            next_cursor = self._cursors.write(keys_of(shown[-1]), user_id=user.id, query=query)
        return Page(items=[row[0] for row in shown], next_cursor=next_cursor, total=total)

    async def create_task(
        self, user: Principal, session: AsyncSession, draft: TaskCreate, terms: Terms = UNCONDITIONAL
    ) -> Task:
        """Create a task that belongs to the user, or to the engagement that the draft names.

        Raises:
            EngagementForbiddenError: Not in it, or too small a role.
            InvalidParentError: It cannot be a subtask of the task that it names.
            InvalidRecurrenceError: It cannot recur like that.
        """
        task = new_task(user, draft, at=datetime.now(UTC))
        if draft.engagement_id is not None:
            await enter(session, Space(user.id, draft.engagement_id), Act.WRITE)
        if task.parent_id is not None:
            subtasks = Subtasks(session, task.owner_id)
            await subtasks.hold_structure()
            await subtasks.check_parent(task.parent_id)
        recipients = await hold(session, user.id, task.owner_id)
        await TaskRepository(session).add(task)
        return await self._commit(user, session, task, [Change(None, task)], terms, recipients)

    async def get_task(self, user: Principal, session: AsyncSession, task_id: int) -> Task:
        """Give one of the user's tasks, or one in an engagement that they are in.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
        """
        tasks = TaskRepository(session)
        return await tasks.find(task_id, user_id=user.id) or await _refuse(tasks, user, task_id)

    async def hold_task(self, user: Principal, session: AsyncSession, task_id: int) -> None:
        """Keep a task that the user may write as it is until the transaction ends; who holds it too waits.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            EngagementForbiddenError: In an engagement where the role is too small.
        """
        tasks = TaskRepository(session)
        task = await tasks.lock(task_id, user_id=user.id) or await _refuse(tasks, user, task_id)
        await hold(session, user.id, task.owner_id)

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
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
        """
        values = update.changes()
        if values.get("parent_id") is not None:
            await hold_structures(session, user.id, [task_id])
        elif values.get("completed"):
            await hold_structures_below(session, user.id, task_id)
        return await self._change(user, session, task_id, lambda task: merged(task, values), terms)

    async def move_task(
        self, user: Principal, session: AsyncSession, task_id: int, move: TaskMove, terms: Terms = UNCONDITIONAL
    ) -> Task:
        """Give a task another place in its owner's order, right before or right after another one.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
            InvalidMoveError: The other task is not there, or there is no room.
        """
        tasks = TaskRepository(session)
        field, other_id = ("after", move.after) if move.after is not None else ("before", move.before)
        if other_id is None:
            raise InvalidMoveError(field, "must name a task")
        await hold_structures(session, user.id, [task_id], shared=True)
        # Both are held, the one of the smaller id first: who moves something there too waits and then sees this move.
        held = {each: await tasks.lock(each, user_id=user.id) for each in sorted((task_id, other_id))}
        task, other = held[task_id] or await _refuse(tasks, user, task_id), held[other_id]
        recipients = await hold(session, user.id, task.owner_id)
        terms.check(task)
        if other is None or other_id == task_id or other.owner_id != task.owner_id:
            raise InvalidMoveError(field, "must be the id of another own task")
        above = field == "before"
        next_one = await tasks.neighbour(other, leave_out=task_id, above=above)
        low, high = (next_one, other.position) if above else (other.position, next_one)
        try:
            position = position_between(low, high, now=datetime.now(UTC))
        except ValueError as error:
            raise InvalidMoveError(field, f"leaves no room: {error}; move that task first") from error
        return await self._alter(user, session, task, {"position": position}, terms, recipients)

    async def set_completed(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL, *, completed: bool
    ) -> Task:
        """Complete or reopen a task; doing it twice is the same as once.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
        """
        if completed:
            await hold_structures_below(session, user.id, task_id)
        return await self._change(user, session, task_id, lambda _: {"completed": completed}, terms)

    async def toggle_complete(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL
    ) -> Task:
        """Complete an open task, reopen a completed one.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
        """
        await hold_structures_below(session, user.id, task_id)
        return await self._change(user, session, task_id, lambda task: {"completed": not task.completed}, terms)

    async def delete_task(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL
    ) -> None:
        """Delete a task and what is below it; the rows stay for a later restore.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
        """
        await hold_structures_below(session, user.id, task_id)
        await self._change(user, session, task_id, lambda _: {"deleted_at": datetime.now(UTC)}, terms)

    async def restore_task(
        self, user: Principal, session: AsyncSession, task_id: int, terms: Terms = UNCONDITIONAL
    ) -> Task:
        """Bring a deleted task back as it was, with what was deleted together with it.

        One that is not deleted stays as it is.

        Raises:
            InvalidParentError: There is no room any more below the task that it was a subtask of.
            TaskNotFoundError: No such task; neither alive nor deleted, or deleted for too long.
            TaskForbiddenError: Someone else's.
            EngagementForbiddenError: In an engagement where the role is too small.
            PreconditionFailedError: It is not as the terms demand.
        """
        await hold_structures(session, user.id, [task_id])
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
        """Lock, check and alter as `decide` says."""
        tasks = TaskRepository(session)
        task = await tasks.lock(task_id, user_id=user.id, deleted=deleted)
        task = task or await _refuse(tasks, user, task_id, deleted=deleted)
        if self._retention.is_over(task, now=datetime.now(UTC)):
            raise refusal(task_id, None)
        recipients = await hold(session, user.id, task.owner_id)
        terms.check(task)
        return await self._alter(user, session, task, decide(task), terms, recipients)

    async def _alter(
        self,
        user: Principal,
        session: AsyncSession,
        task: Task,
        values: Mapping[str, Any],
        terms: Terms,
        recipients: Recipients,
    ) -> Task:
        """Give a locked task other values, and what follows from them; no event when nothing differs."""
        tasks, before, now = TaskRepository(session), task.snapshot(), datetime.now(UTC)
        changes: list[Change] = []
        if apply(task, values, at=now):
            with session.no_autoflush:  # first it is looked at, then written
                further = await consequences(Subtasks(session, task.owner_id), before, task, at=now)
            await tasks.save(task, at=now)
            for change in further:
                if change.before is None:
                    await tasks.add(change.task)
            changes = [Change(before, task), *further]
        return await self._commit(user, session, task, changes, terms, recipients)

    async def _commit(
        self,
        user: Principal,
        session: AsyncSession,
        task: Task,
        changes: Sequence[Change],
        terms: Terms,
        recipients: Recipients,
    ) -> Task:
        """Commit changes with an event for each; what was changed first is told first."""
        await self._outbox.add_many(session, [event_of(user, change, recipients) for change in changes])
        await terms.before_commit(task)
        await session.commit()
        self._outbox.committed()
        return task


def new_task(user: Principal, draft: TaskCreate, *, at: datetime, ahead: timedelta = timedelta()) -> Task:
    """Make a task of a draft; it gets its id when it is inserted.

    Args:
        user: Whose it is, unless it goes into an engagement.
        draft: What it says.
        at: When it is made.
        ahead: Added to the moment that its position is made of: tasks made at one moment have positions of their own.

    Raises:
        InvalidRecurrenceError: It cannot recur like that.
    """
    position = position_at(at + ahead)
    owner_id = Space(user.id, draft.engagement_id).owner_id
    fields = draft.model_dump(exclude={"engagement_id"})
    task = Task(owner_id=owner_id, created_at=at, updated_at=at, position=position, **fields)
    check_recurrence(task, now=at)
    return task


def apply(task: Task, values: Mapping[str, Any], *, at: datetime) -> bool:
    """Set fields of a task, and what follows from them; False when nothing differs."""
    before = task.snapshot()
    for name, value in values.items():
        setattr(task, name, value)
    if task.completed != before.completed:
        task.completed_at = at if task.completed else None
    return task.snapshot() != before


async def _refuse(tasks: TaskRepository, user: Principal, task_id: int, *, deleted: bool = False) -> Task:
    raise refusal(task_id, await tasks.standing(task_id, user_id=user.id, deleted=deleted))


def refusal(task_id: int, standing: Standing | None) -> ApiError:
    """Say why the user cannot have a task that is not among those they reach."""
    if standing is None:
        return TaskNotFoundError(f"There is no task {task_id}.")
    engagement_id = engagement_of(standing.owner_id)
    if engagement_id is None or standing.role is None:
        return TaskForbiddenError(f"Task {task_id} belongs to someone else.")
    return EngagementForbiddenError(engagement_id, Act.WRITE, standing.role)
