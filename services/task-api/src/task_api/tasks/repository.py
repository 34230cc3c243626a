"""All SQL about tasks; that of lists is in `listing`.

What reads or locks a task that a caller names by its id says what the caller reaches (`engagements.reach`); what goes
through all of an owner starts from `_owned_by`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, ColumnElement, and_, any_, bindparam, insert, literal, text, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from task_api.engagements.reach import reaches, role_in, still_in
from task_api.engagements.roles import Act
from task_api.engagements.spaces import Space
from task_api.tasks.listing import TaskFilter, TaskListing, count_statement, page_statement
from task_api.tasks.models import Task


def _owned_by(owner_id: str) -> ColumnElement[bool]:
    return and_(col(Task.owner_id) == owner_id, _alive())


def _alive() -> ColumnElement[bool]:
    return col(Task.deleted_at).is_(None)


_TABLE: Final = Task.metadata.tables["tasks"]
_WRITTEN: Final = [column.name for column in _TABLE.c if column.computed is None]
_NEW_IDS: Final = text(
    "SELECT nextval(pg_get_serial_sequence('tasks', 'id')) AS id FROM generate_series(1, :count) ORDER BY id"
)
_INSERT: Final = insert(_TABLE).values({name: bindparam(name) for name in _WRITTEN})
_SAVE: Final = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("new_id"))
    .values({name: bindparam(f"new_{name}") for name in _WRITTEN if name != "id"})
)


def _one_of(task_ids: Sequence[int]) -> ColumnElement[bool]:
    """One array, whose statement is the same for any number of ids."""
    return col(Task.id) == any_(literal(task_ids, ARRAY(BigInteger)))


class Standing(NamedTuple):
    """Whose a task is that somebody cannot have, and what they are there.

    Attributes:
        owner_id: A user, or an engagement.
        role: Of the one who asks in that engagement, if any.
        deleted: Whether the task is.
    """

    owner_id: str
    role: str | None
    deleted: bool


class TaskRepository:
    """Tasks in one session's transaction.

    Rows are locked FOR NO KEY UPDATE, as ids never change. So the next of a recurring subtask is inserted while the
    task above is locked by whoever deletes it and waits for the subtask: the foreign key does not wait.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, task_id: int, *, user_id: str) -> Task | None:
        """Give a task that a user may read."""
        statement = select(Task).where(col(Task.id) == task_id, reaches(col(Task.owner_id), user_id, Act.READ))
        return (await self._session.exec(statement.where(_alive()))).first()

    async def lock(self, task_id: int, *, user_id: str, deleted: bool = False) -> Task | None:
        """Give a task that a user may write, also a deleted one where asked for, and hold its row."""
        statement = select(Task).where(col(Task.id) == task_id, reaches(col(Task.owner_id), user_id, Act.WRITE))
        statement = statement if deleted else statement.where(_alive())
        return (await self._session.exec(statement.with_for_update(key_share=True))).first()

    async def standing(self, task_id: int, *, user_id: str, deleted: bool = False) -> Standing | None:
        """Say whose a task is, whoever asks; None when there is none."""
        return (await self.standings([task_id], user_id=user_id, deleted=deleted)).get(task_id)

    async def page(
        self, space: Space, wanted: TaskListing, *, after: list[str] | None, now: datetime
    ) -> list[tuple[Any, ...]]:
        """Give a page of the tasks in a space and one more, each with its sort keys (`listing.keys_of`)."""
        statement = page_statement(space.owner_id, wanted, after=after, now=now).where(*still_in(space))
        return list((await self._session.exec(statement)).all())

    async def count(self, space: Space, matching: TaskFilter, *, now: datetime) -> int:
        """Count what `page` would go through."""
        statement = count_statement(space.owner_id, matching, now=now).where(*still_in(space))
        return (await self._session.exec(statement)).one()

    async def neighbour(self, task: Task, *, leave_out: int, above: bool) -> str | None:
        """Give the next other position above or below a task in its owner's order."""
        position = col(Task.position)
        statement = select(Task.position).where(_owned_by(task.owner_id), col(Task.id) != leave_out)
        if above:
            statement = statement.where(position < task.position).order_by(position.desc())
        else:
            statement = statement.where(position > task.position).order_by(position)
        return (await self._session.exec(statement.limit(1))).first()

    async def add(self, task: Task) -> None:
        """Insert a task; it has its id afterwards."""
        self._session.add(task)
        await self._session.flush()

    async def save(self, task: Task, *, at: datetime) -> None:
        """Write a changed task as its next version."""
        task.version += 1
        task.updated_at = at
        await self._session.flush()

    async def lock_many(self, task_ids: Sequence[int], *, user_id: str) -> list[Task]:
        """Give the tasks among these that a user may write, deleted ones too, and hold their rows.

        Rows are locked in the order of their ids, so two callers never wait for each other. The tasks do not belong
        to the session: what changes is written by `save_many` alone.
        """
        if not task_ids:
            return []
        statement = select(Task).where(_one_of(task_ids), reaches(col(Task.owner_id), user_id, Act.WRITE))
        return await self._lock_apart(statement.order_by(col(Task.id)))

    async def lock_some(self, owner_id: str, *, limit: int) -> list[Task]:
        """Give so many of an owner's tasks at most, oldest first, and hold their rows, as `lock_many` does."""
        oldest_first = (col(Task.created_at), col(Task.id))
        return await self._lock_apart(select(Task).where(_owned_by(owner_id)).order_by(*oldest_first).limit(limit))

    async def _lock_apart(self, statement: SelectOfScalar[Task]) -> list[Task]:
        tasks = list((await self._session.exec(statement.with_for_update(key_share=True))).all())
        for task in tasks:
            self._session.expunge(task)
        return tasks

    async def standings(self, task_ids: Sequence[int], *, user_id: str, deleted: bool = True) -> dict[int, Standing]:
        """Say of these tasks whose they are, whoever asks, of those that there are."""
        if not task_ids:
            return {}
        role = role_in(col(Task.owner_id), user_id)
        statement = select(Task.id, Task.owner_id, role, col(Task.deleted_at).is_not(None)).where(_one_of(task_ids))
        statement = statement if deleted else statement.where(_alive())
        return {row[0] or 0: Standing(row[1], row[2], row[3]) for row in await self._session.exec(statement)}

    async def number(self, tasks: Sequence[Task]) -> None:
        """Give new tasks their ids before they are inserted, in order."""
        if tasks:
            connection = await self._session.connection()
            ids = (await connection.execute(_NEW_IDS, {"count": len(tasks)})).scalars()
            for task, task_id in zip(tasks, ids, strict=True):
                task.id = task_id

    async def add_many(self, tasks: Sequence[Task]) -> None:
        """Insert tasks by one statement, in order; those that have no id yet are given theirs.

        Not by the session, whose INSERT has a text of its own for every number of rows: PostgreSQL would keep each
        of them prepared, on every connection (measured: 100 MB after 40 bulks of different sizes).
        """
        if not tasks:
            return
        await self.number([task for task in tasks if task.id is None])
        connection = await self._session.connection()
        await connection.execute(_INSERT, [task.model_dump(include=set(_WRITTEN)) for task in tasks])

    async def save_many(self, tasks: Sequence[Task]) -> None:
        """Write tasks of `lock_many` as they are now, in one round trip."""
        if not tasks:
            return
        rows = [{f"new_{name}": value for name, value in task.model_dump().items()} for task in tasks]
        await (await self._session.connection()).execute(_SAVE, rows)
