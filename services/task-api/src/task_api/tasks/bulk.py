"""The rules about many changes in one request: one transaction, a result for each, a round trip for each kind."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, assert_never

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ApiError
from chassis.identity import Principal
from task_api.outbox.service import Outbox
from task_api.tasks.bulk_schemas import CreateOperation, Operation, RefusedOperation, StateOperation, UpdateOperation
from task_api.tasks.conditions import PreconditionFailedError
from task_api.tasks.models import Task
from task_api.tasks.repository import TaskRepository
from task_api.tasks.schemas import TaskOut
from task_api.tasks.service import apply, event_data, event_type, new_task, refusal
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

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

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
        tasks = TaskRepository(session)
        bulk = _Bulk(user, *await _load(tasks, user, operations))
        outcomes = [bulk.do(operation) for operation in operations]
        await tasks.add_many(bulk.created)
        await tasks.save_many([task for task in bulk.mine.values() if task.id in bulk.changed])
        await self._outbox.add_many(session, [*bulk.creations(), *bulk.changes])
        created = iter(bulk.created)
        await before_commit([_made(next(created)) if made is None else made for made in outcomes])
        await session.commit()
        self._outbox.committed()


async def _load(
    tasks: TaskRepository, user: Principal, operations: Sequence[Operation | RefusedOperation]
) -> tuple[dict[int, Task], dict[int, bool]]:
    """Lock the user's tasks among those named, and learn which of the others there are, and whether deleted."""
    named = sorted({item.id for item in operations if isinstance(item, UpdateOperation | StateOperation)})
    mine = {task.id: task for task in await tasks.lock_many(named, owner_id=user.id) if task.id is not None}
    return mine, await tasks.which_exist([task_id for task_id in named if task_id not in mine])


class _Bulk:
    """The tasks while operation after operation is done to them; they are written once, at the end."""

    def __init__(self, user: Principal, mine: dict[int, Task], others: dict[int, bool]) -> None:
        self._user, self.mine, self._others = user, mine, others
        self._now = datetime.now(UTC)
        self.created: list[Task] = []
        self.changed: set[int | None] = set()
        self.changes: list[tuple[TaskEventType, TaskEventData]] = []

    def do(self, operation: Operation | RefusedOperation) -> Outcome | None:
        """Do one operation; None for a task that has yet to get its id."""
        try:
            match operation:
                case RefusedOperation():
                    raise operation.error
                case CreateOperation():
                    self.created.append(new_task(self._user, operation.task, at=self._now))
                    return None
                case UpdateOperation():
                    return self._change(operation, operation.changes.changes())
                case StateOperation(op="delete"):
                    return self._change(operation, {"deleted_at": self._now})
                case StateOperation():
                    return self._change(operation, _STATES[operation.op])
                case _:
                    assert_never(operation)
        except ApiError as error:
            return Outcome(error.status, id=getattr(operation, "id", None), error=error)

    def _change(self, operation: UpdateOperation | StateOperation, values: dict[str, Any]) -> Outcome:
        task = self._find(operation.id, deleted=operation.op == "restore")
        if operation.version is not None and operation.version != task.version:
            detail = f"The task was changed meanwhile and is at version {task.version}: read it and decide again."
            raise PreconditionFailedError(detail)
        before = task.snapshot()
        if apply(task, values, at=self._now):
            task.version += 1
            task.updated_at = self._now
            self.changed.add(task.id)
            self.changes.append((event_type(before, task), event_data(self._user, before=before, task=task)))
        if operation.op == "delete":
            return Outcome(HTTPStatus.NO_CONTENT, id=task.id)
        return Outcome(HTTPStatus.OK, id=task.id, task=TaskOut.model_validate(task))

    def _find(self, task_id: int, *, deleted: bool) -> Task:
        task = self.mine.get(task_id)
        if task is not None and (deleted or task.deleted_at is None):
            return task
        is_deleted = self._others.get(task_id)
        raise refusal(task_id, exists=is_deleted is not None and (deleted or not is_deleted))

    def creations(self) -> list[tuple[TaskEventType, TaskEventData]]:
        """Give the events of the new tasks, once they have ids."""
        return [(TaskEventType.CREATED, event_data(self._user, before=None, task=task)) for task in self.created]


def _made(task: Task) -> Outcome:
    return Outcome(HTTPStatus.CREATED, id=task.id, task=TaskOut.model_validate(task))
