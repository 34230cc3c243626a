"""The rules about many changes in one request: one transaction, a result for each, a round trip for each kind.

Subtasks are the exception. What is below a task that is completed, deleted or restored, and whether a task can be put
below another, depends on what earlier operations of the same bulk did to the trees: so before such an operation what
was done so far is written, and the database is asked, as for a single request. That takes some statements for each of
them. Tasks without subtasks, which are most, take none.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, assert_never

from sqlmodel.ext.asyncio.session import AsyncSession
from typing_extensions import override

from chassis.errors import ApiError
from chassis.identity import Principal
from task_api.engagements.access import Held, hold_many
from task_api.engagements.spaces import Space
from task_api.outbox.service import Outbox
from task_api.tasks.bulk_schemas import CreateOperation, Operation, RefusedOperation, StateOperation, UpdateOperation
from task_api.tasks.conditions import PreconditionFailedError
from task_api.tasks.consequences import Change, consequences, merged
from task_api.tasks.events import event_of
from task_api.tasks.models import Task
from task_api.tasks.repository import Standing, TaskRepository
from task_api.tasks.retention import Retention
from task_api.tasks.schemas import TaskOut
from task_api.tasks.service import apply, new_task, refusal
from task_api.tasks.subtasks import Subtasks, hold_structures
from task_events import TaskEventData, TaskEventType

_STATES: Final[dict[str, dict[str, Any]]] = {
    "complete": {"completed": True},
    "reopen": {"completed": False},
    "restore": {"deleted_at": None},
}


@dataclass(frozen=True)
class Outcome:
    """What became of one operation: the task as it was right after it, or why it was not done."""

    status: int
    id: int | None = None
    task: TaskOut | None = None
    error: ApiError | None = None


BeforeCommit = Callable[[Sequence[Outcome]], Awaitable[None]]


class TaskBulk:
    """Many changes at once."""

    def __init__(self, outbox: Outbox, retention: Retention) -> None:
        self._outbox = outbox
        self._retention = retention

    async def run(
        self,
        user: Principal,
        session: AsyncSession,
        operations: Sequence[Operation | RefusedOperation],
        before_commit: BeforeCommit,
    ) -> None:
        """Do what can be done, in the order given, and tell what became of each.

        An operation that is refused fails alone. What was done is committed together with its events, or, when
        the database fails, not at all.

        Args:
            user: Who asks.
            session: Its transaction is committed.
            operations: What to do.
            before_commit: Is told the outcomes, in the order of the operations, within the transaction.
        """
        tasks, taking_along = TaskRepository(session), _may_take_along(operations)
        shared = not taking_along and not any(_sets_structure(operation) for operation in operations)
        owners = {user.id, *_owners_of_new(user, operations)}
        await hold_structures(session, user.id, _named(operations), owner_ids=[*owners], shared=shared)
        mine, others = await _load(tasks, user, operations, self._retention)
        held = await hold_many(session, user.id, owners | {task.owner_id for task in mine.values()})
        below = _Below(session, user.id, mine, await Subtasks(session, user.id).which_have(taking_along))
        bulk = _Bulk(user, tasks, below, others, held)
        for index, operation in enumerate(operations):
            await bulk.do(index, operation)
        await bulk.write()
        await self._outbox.add_many(session, bulk.events)
        await before_commit([bulk.outcomes[index] for index in range(len(operations))])
        await session.commit()
        self._outbox.committed()


async def _load(
    tasks: TaskRepository,
    user: Principal,
    operations: Sequence[Operation | RefusedOperation],
    retention: Retention,
) -> tuple[dict[int, Task], dict[int, Standing]]:
    """Lock the tasks among those named that the user may write, and learn whose the others are."""
    named = _named(operations)
    locked = {task.id: task for task in await tasks.lock_many(named, user_id=user.id) if task.id is not None}
    others = await tasks.standings([task_id for task_id in named if task_id not in locked], user_id=user.id)
    now = datetime.now(UTC)
    mine = {task_id: task for task_id, task in locked.items() if not retention.is_over(task, now=now)}
    return mine, others


def _named(operations: Sequence[Operation | RefusedOperation]) -> list[int]:
    return sorted({item.id for item in operations if isinstance(item, UpdateOperation | StateOperation)})


def _owners_of_new(user: Principal, operations: Sequence[Operation | RefusedOperation]) -> set[str]:
    created = [item.task.engagement_id for item in operations if isinstance(item, CreateOperation)]
    return {Space(user.id, engagement_id).owner_id for engagement_id in created}


def _sets_structure(operation: Operation | RefusedOperation) -> bool:
    match operation:
        case CreateOperation():
            return operation.task.parent_id is not None
        case UpdateOperation():
            return operation.changes.parent_id is not None
        case StateOperation():
            return operation.op == "restore"
    return False


def _may_take_along(operations: Sequence[Operation | RefusedOperation]) -> list[int]:
    """Give the tasks that are to be completed, deleted or restored."""
    found = set()
    for operation in operations:
        match operation:
            case UpdateOperation() if operation.changes.completed:
                found.add(operation.id)
            case StateOperation() if operation.op != "reopen":
                found.add(operation.id)
            case _:
                pass
    return sorted(found)


class _Below(Subtasks):
    """The trees during a bulk, in which every task is one object; asks nothing about tasks that have nothing below."""

    def __init__(self, session: AsyncSession, owner_id: str, mine: dict[int, Task], above: set[int]) -> None:
        super().__init__(session, owner_id)
        self._bulk_session = session
        self.mine, self.above = mine, above

    def of(self, owner_id: str) -> "_Below":
        """Give the trees of another owner in the same bulk."""
        return _Below(self._bulk_session, owner_id, self.mine, self.above)

    @override
    async def lock_below(self, task_id: int, deleted_at: datetime | None = None) -> list[Task]:
        """Give the tasks below one; their own objects where the bulk has them already."""
        if task_id not in self.above:
            return []
        found = await super().lock_below(task_id, deleted_at)
        for task in found:
            self._bulk_session.expunge(task)
        return [self.mine.setdefault(task.id or 0, task) for task in found]


class _Bulk:
    """The tasks while operation after operation is done to them."""

    def __init__(
        self, user: Principal, tasks: TaskRepository, below: _Below, others: dict[int, Standing], held: Held
    ) -> None:
        self._user, self._tasks, self._below, self._others, self._held = user, tasks, below, others, held
        self._now = datetime.now(UTC)
        self._created: list[tuple[int | None, Task]] = []
        self._changed: dict[int, Task] = {}
        self._made = 0
        self.outcomes: dict[int, Outcome] = {}
        self.events: list[tuple[TaskEventType, TaskEventData]] = []

    async def do(self, index: int, operation: Operation | RefusedOperation) -> None:
        """Do one operation; what became of it is known after `write` at the latest."""
        try:
            match operation:
                case RefusedOperation():
                    raise operation.error
                case CreateOperation():
                    await self._create(index, operation)
                case UpdateOperation():
                    self.outcomes[index] = await self._change(operation, operation.changes.changes())
                case StateOperation(op="delete"):
                    # A moment for each: what one of them deleted comes back together, as after requests of their own.
                    at = self._now + timedelta(microseconds=index)
                    self.outcomes[index] = await self._change(operation, {"deleted_at": at})
                case StateOperation():
                    self.outcomes[index] = await self._change(operation, _STATES[operation.op])
                case _:
                    assert_never(operation)
        except ApiError as error:
            self.outcomes[index] = Outcome(error.status, id=getattr(operation, "id", None), error=error)

    async def write(self) -> None:
        """Write what was done since the last time: one statement inserts, one updates."""
        await self._tasks.add_many([task for _, task in self._created])
        await self._tasks.save_many(list(self._changed.values()))
        for index, task in self._created:
            self._tell(Change(None, task))
            self._below.mine[task.id or 0] = task
            if index is not None:
                self.outcomes[index] = _made(task)
        self._created, self._changed = [], {}

    async def _create(self, index: int, operation: CreateOperation) -> None:
        task = new_task(self._user, operation.task, at=self._now, ahead=timedelta(microseconds=self._made))
        self._held.check(task.owner_id)
        if task.parent_id is not None:
            await self.write()
            await self._below.of(task.owner_id).check_parent(task.parent_id)
            self._below.above.add(task.parent_id)
        self._made += 1
        self._created.append((index, task))

    async def _change(self, operation: UpdateOperation | StateOperation, values: Mapping[str, Any]) -> Outcome:
        task = self._find(operation.id, deleted=operation.op == "restore")
        if operation.version is not None and operation.version != task.version:
            detail = f"The task was changed meanwhile and is at version {task.version}: read it and decide again."
            raise PreconditionFailedError(detail)
        values, before, was = merged(task, values), task.snapshot(), task.model_dump()
        if self._asks_the_database(task, values):
            await self.write()
        if apply(task, values, at=self._now):
            try:
                further = await consequences(self._below.of(task.owner_id), before, task, at=self._now)
            except ApiError:
                for name, value in was.items():  # it fails alone: the task is as it was
                    setattr(task, name, value)
                raise
            task.version += 1
            task.updated_at = self._now
            self._keep(Change(before, task))
            for change in further:
                self._keep(change)
        if operation.op == "delete":
            return Outcome(HTTPStatus.NO_CONTENT, id=task.id)
        return Outcome(HTTPStatus.OK, id=task.id, task=TaskOut.model_validate(task))

    def _asks_the_database(self, task: Task, values: Mapping[str, Any]) -> bool:
        """Tell whether the change asks about other tasks, which must be in the database as they are by now."""
        restored = task.parent_id is not None and "deleted_at" in values
        has_below = task.id in self._below.above and not values.keys().isdisjoint({"completed", "deleted_at"})
        return restored or has_below or values.get("parent_id") is not None

    def _keep(self, change: Change) -> None:
        task = change.task
        if change.before is None:
            self._created.append((None, task))
        else:
            self._changed[change.before.id] = task
            self._tell(change)
        if task.parent_id is not None:
            self._below.above.add(task.parent_id)

    def _tell(self, change: Change) -> None:
        self.events.append(event_of(self._user, change, self._held.check(change.task.owner_id)))

    def _find(self, task_id: int, *, deleted: bool) -> Task:
        task = self._below.mine.get(task_id)
        if task is not None and (deleted or task.deleted_at is None):
            self._held.check(task.owner_id)
            return task
        other = self._others.get(task_id)
        raise refusal(task_id, None if other is not None and other.deleted and not deleted else other)


def _made(task: Task) -> Outcome:
    return Outcome(HTTPStatus.CREATED, id=task.id, task=TaskOut.model_validate(task))
