"""All SQL about tasks; that of lists is in `listing`. What reads or locks for a caller starts from `_owned_by`.."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from task_api.tasks.listing import TaskFilter, TaskListing, count_statement, page_statement
from task_api.tasks.models import Task


def _owned_by(owner_id: str) -> ColumnElement[bool]:
    return and_(col(Task.owner_id) == owner_id, _alive())


def _alive() -> ColumnElement[bool]:
    return col(Task.deleted_at).is_(None)


class TaskRepository:
    """Tasks in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, task_id: int, *, owner_id: str) -> Task | None:
        """Give a caller's own task."""
        return (await self._session.exec(self._one(task_id, owner_id))).first()

    async def lock(self, task_id: int, *, owner_id: str) -> Task | None:
        """Give a caller's own task and hold its row until the transaction ends."""
        statement = self._one(task_id, owner_id).with_for_update()
        return (await self._session.exec(statement)).first()

    async def exists(self, task_id: int) -> bool:
        """Tell whether there is such a task, whoever owns it."""
        statement = select(Task.id).where(col(Task.id) == task_id, _alive())
        return (await self._session.exec(statement)).first() is not None

    async def page(
        self, owner_id: str, wanted: TaskListing, *, after: list[str] | None, now: datetime
    ) -> list[tuple[Any, ...]]:
        """Give a page of a caller's tasks and one more, each with its sort keys (`listing.keys_of`)."""
        statement = page_statement(owner_id, wanted, after=after, now=now)
        return list((await self._session.exec(statement)).all())

    async def count(self, owner_id: str, matching: TaskFilter, *, now: datetime) -> int:
        """Count what `page` would go through."""
        return (await self._session.exec(count_statement(owner_id, matching, now=now))).one()

    async def neighbour(self, task: Task, *, owner_id: str, leave_out: int, above: bool) -> str | None:
        """Give the next other position above or below a task in the owner's order."""
        position = col(Task.position)
        statement = select(Task.position).where(_owned_by(owner_id), col(Task.id) != leave_out)
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

    @staticmethod
    def _one(task_id: int, owner_id: str) -> SelectOfScalar[Task]:
        return select(Task).where(col(Task.id) == task_id, _owned_by(owner_id))
