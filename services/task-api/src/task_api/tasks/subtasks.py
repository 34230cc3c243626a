"""Tasks below tasks: how deep, how many, never in a circle; and what they do when the task above them changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Text, any_, bindparam, func, literal, literal_column, text, union
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import FieldProblem, InvalidInputError
from task_api.engagements.reach import reaches
from task_api.engagements.roles import Act
from task_api.tasks.models import Task
from task_events import TaskSnapshot

MAX_DEPTH: Final = 5
"""Levels, the topmost included."""
MAX_TREE: Final = 500
"""Tasks in one tree: so many are completed or deleted in one transaction at most."""

_LOCK_STRUCTURE: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('subtasks of ' || :owner_id, 0))")
_SHARE_STRUCTURE: Final = text("SELECT pg_advisory_xact_lock_shared(hashtextextended('subtasks of ' || :owner_id, 0))")
# Bounded: not even a circle, which should not be, would keep them running.
_ANCESTORS: Final = text(
    """
    WITH RECURSIVE line AS (
        SELECT id, parent_id, 1 AS steps FROM tasks WHERE id = :task_id
        UNION ALL
        SELECT above.id, above.parent_id, steps + 1 FROM line JOIN tasks AS above ON above.id = line.parent_id
        WHERE steps <= :max_depth
    )
    SELECT id FROM line ORDER BY steps
    """
)
_TREE: Final = text(
    """
    WITH RECURSIVE tree AS (
        SELECT id, 1 AS depth FROM tasks WHERE id = :task_id
        UNION ALL
        SELECT below.id, depth + 1 FROM tree JOIN tasks AS below ON below.parent_id = tree.id
        WHERE below.deleted_at IS NOT DISTINCT FROM :deleted_at AND depth <= :max_depth
    )
    SELECT id, depth FROM tree ORDER BY depth, id
    """
)


class InvalidParentError(InvalidInputError):
    """The task cannot be a subtask of that one."""

    code = "invalid_parent"

    def __init__(self, message: str) -> None:
        super().__init__(f"parent_id {message}", errors=[FieldProblem(field="parent_id", message=message)])


@dataclass(frozen=True)
class Room:
    """Where a task is.

    Attributes:
        level: Of it in its tree, 1 at the top.
        root_id: The task at the top.
        size: Tasks in the tree.
    """

    level: int
    root_id: int
    size: int


def check_tree(*, levels: int, tasks: int) -> None:
    """Make sure that a tree may be like this.

    Raises:
        InvalidParentError: It would be too deep or too large.
    """
    if levels > MAX_DEPTH:
        raise InvalidParentError(f"would nest tasks more than {MAX_DEPTH} levels deep")
    if tasks > MAX_TREE:
        raise InvalidParentError(f"would make a tree of more than {MAX_TREE} tasks")


async def hold_structures(
    session: AsyncSession,
    user_id: str,
    task_ids: Sequence[int] = (),
    *,
    owner_ids: Sequence[str] = (),
    shared: bool = False,
) -> None:
    """Call `Subtasks.hold_structure` for the owners of tasks that the user may write, and for others.

    In the order of their names: two callers never wait for each other in a circle. One statement, as who owns a task
    is known before it is locked only to the database.
    """
    named = col(Task.id) == any_(literal(list(task_ids), ARRAY(BigInteger)))
    theirs = select(Task.owner_id).where(named, reaches(col(Task.owner_id), user_id, Act.WRITE))
    others = select(func.unnest(literal(list(owner_ids), ARRAY(Text))))
    owners = union(theirs, others).order_by(literal_column("1")).subquery("owners")
    lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
    key = func.hashtextextended(literal_column("'subtasks of '") + owners.c.owner_id, literal_column("0"))
    await (await session.connection()).execute(select(lock(key)))


async def hold_structures_below(session: AsyncSession, user_id: str, task_id: int) -> None:
    """Call `hold_structures` if there are tasks below this one, which is to be completed or deleted with them.

    One that is put there just now is not seen, and taken along all the same; to wait in a circle for that one, so
    that PostgreSQL ends a request with a 503, somebody must also change both at once.
    """
    if await Subtasks(session, user_id).which_have([task_id]):
        await hold_structures(session, user_id, [task_id])


class Subtasks:
    """The trees of one owner's tasks in one session's transaction."""

    def __init__(self, session: AsyncSession, owner_id: str) -> None:
        self._session = session
        self._owner_id = owner_id

    async def hold_structure(self, *, shared: bool = False) -> None:
        """Until the transaction ends, let others of the same owner wait who change trees, or several tasks.

        To be called before any task is locked, by whoever will lock more than one: then two tasks that are put below
        each other at once cannot make a circle, and nobody waits in a circle for tasks.

        Args:
            shared: For who changes several tasks, locked in the order of their ids, and no tree.
        """
        connection = await self._session.connection()
        await connection.execute(_SHARE_STRUCTURE if shared else _LOCK_STRUCTURE, {"owner_id": self._owner_id})

    async def hold_parent(self, parent_id: int) -> bool:
        """Tell whether there is such an own task, and keep it from being deleted until the transaction ends."""
        statement = select(Task.id).where(
            col(Task.id) == parent_id, col(Task.owner_id) == self._owner_id, col(Task.deleted_at).is_(None)
        )
        return (await self._session.exec(statement.with_for_update(read=True))).first() is not None

    async def check_parent(self, parent_id: int, task: TaskSnapshot | None = None) -> None:
        """Make sure that a task can be put below another, and keep that one from being deleted.

        Args:
            parent_id: The task to be above.
            task: What is to be put below it, as it is in the database; None for a new task. A deleted one, which
                is about to be restored, comes with what was deleted together with it.

        Raises:
            InvalidParentError: It cannot.
        """
        task_id = None if task is None else task.id
        if not await self.hold_parent(parent_id):
            raise InvalidParentError("must be the id of an own task")
        line = await self._line(parent_id)
        if task_id in line:
            raise InvalidParentError("must not be the task itself or a subtask of it")
        tree = await self._depths(line[-1])
        own = {1: 1} if task is None else await self._depths(task.id, task.deleted_at)
        check_tree(levels=len(line) + max(own.values()), tasks=len(tree) + (0 if task_id in tree else len(own)))

    async def room_below(self, parent_id: int) -> Room:
        """Say where a task is, for what is to be put below it, and keep it from being deleted.

        Raises:
            InvalidParentError: There is no such own task.
        """
        if not await self.hold_parent(parent_id):
            raise InvalidParentError("must be the id of an own task")
        line = await self._line(parent_id)
        return Room(level=len(line), root_id=line[-1], size=len(await self._depths(line[-1])))

    async def lock_below(self, task_id: int, deleted_at: datetime | None = None) -> list[Task]:
        """Give the tasks below a locked task, those above others first, and hold them until the transaction ends.

        Args:
            task_id: The task above.
            deleted_at: Those that were deleted at this moment; None for those that are there.
        """
        found: list[Task] = []
        seen = {task_id}
        while new := [below for below in await self._depths(task_id, deleted_at) if below not in seen]:
            # Always from above to below, so that two such walks wait for each other and never in a circle. Then once
            # more: something may have been put below one of them before it was locked.
            order = func.array_position(bindparam(None, new, type_=ARRAY(BigInteger)), col(Task.id))
            those = (col(Task.id).in_(new), col(Task.deleted_at).is_not_distinct_from(deleted_at))
            statement = select(Task).where(*those).order_by(order)
            found += (await self._session.exec(statement.with_for_update(key_share=True))).all()
            seen.update(new)
        return found

    async def which_have(self, task_ids: Sequence[int]) -> set[int]:
        """Tell which of these tasks have any below them, deleted ones too."""
        if not task_ids:
            return set()
        below = col(Task.parent_id)
        statement = select(below).where(below == any_(literal(task_ids, ARRAY(BigInteger)))).distinct()
        return {task_id for task_id in await self._session.exec(statement) if task_id is not None}

    async def _line(self, task_id: int) -> list[int]:
        connection = await self._session.connection()
        return list((await connection.execute(_ANCESTORS, {"task_id": task_id, "max_depth": MAX_DEPTH})).scalars())

    async def _depths(self, task_id: int, deleted_at: datetime | None = None) -> dict[int, int]:
        """Give each task of the tree below a task, itself included, with its level; the topmost first."""
        connection = await self._session.connection()
        rows = await connection.execute(_TREE, {"task_id": task_id, "deleted_at": deleted_at, "max_depth": MAX_DEPTH})
        return {row.id: row.depth for row in rows}
