"""All SQL about the history of completions. What reads it for a caller starts from the owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, text, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.engagements.reach import still_in
from task_api.engagements.spaces import Space
from task_api.history.models import Completion

# One row each and executed for many: their text is the same for any number of rows, and each finds its row by an index
# whatever the planner thinks of the others.
_COMPLETE: Final = text(
    """
    INSERT INTO completions (owner_id, task_id, series_id, title, completed_at, reopened_at)
    VALUES (
        :owner_id, :task_id, (SELECT coalesce(series_id, id) FROM tasks WHERE id = :task_id),
        :title, :completed_at, :reopened_at
    )
    ON CONFLICT (task_id) WHERE reopened_at IS NULL
    DO UPDATE SET title = excluded.title, completed_at = excluded.completed_at
    """
)
"""A completion that still stands was reopened by a replica of a release that knew no history; the new one counts."""
_REOPEN: Final = text(
    "UPDATE completions SET reopened_at = :reopened_at WHERE task_id = :task_id AND reopened_at IS NULL"
)


@dataclass(frozen=True)
class CompletionFilter:
    """Which completions; what is None does not matter.

    Attributes:
        engagement_id: Of the tasks in this engagement; None: of one's own.
        series_id: Of this task and those that it recurred from.
        completed_after: Completed at this moment or later.
        completed_before: Completed before this moment.
        reopened: Undone since; False: those that still stand.
    """

    engagement_id: int | None = None
    series_id: int | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None
    reopened: bool | None = None


@dataclass(frozen=True)
class Place:
    """Where a page ended."""

    completed_at: datetime
    completion_id: int


class CompletionRepository:
    """Completions in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add_many(self, completions: Sequence[Completion]) -> None:
        """Insert completions of tasks that are in the database, in one round trip."""
        if not completions:
            return
        rows = [completion.model_dump(exclude={"id", "series_id"}) for completion in completions]
        await (await self._session.connection()).execute(_COMPLETE, rows)

    async def reopen_many(self, moments: Sequence[tuple[int, datetime]]) -> None:
        """Note when the standing completions of tasks were undone, in one round trip."""
        if not moments:
            return
        rows = [{"task_id": task_id, "reopened_at": moment} for task_id, moment in moments]
        await (await self._session.connection()).execute(_REOPEN, rows)

    async def page(
        self, space: Space, wanted: CompletionFilter, *, after: Place | None, limit: int
    ) -> list[Completion]:
        """Give a page of the completions in a space, newest first, and one more."""
        statement = select(Completion).where(_matches(space.owner_id, wanted), *still_in(space))
        place = tuple_(col(Completion.completed_at), col(Completion.id))
        if after is not None:
            statement = statement.where(place < (after.completed_at, after.completion_id))
        newest_first = (col(Completion.completed_at).desc(), col(Completion.id).desc())
        return list((await self._session.exec(statement.order_by(*newest_first).limit(limit + 1))).all())

    async def count(self, space: Space, wanted: CompletionFilter) -> int:
        """Count what `page` would go through."""
        statement = select(func.count()).select_from(Completion)
        statement = statement.where(_matches(space.owner_id, wanted), *still_in(space))
        return (await self._session.exec(statement)).one()


def _matches(owner_id: str, wanted: CompletionFilter) -> ColumnElement[bool]:
    completed_at, reopened_at = col(Completion.completed_at), col(Completion.reopened_at)
    conditions: list[ColumnElement[Any]] = [col(Completion.owner_id) == owner_id]
    if wanted.series_id is not None:
        conditions.append(col(Completion.series_id) == wanted.series_id)
    if wanted.completed_after is not None:
        conditions.append(completed_at >= wanted.completed_after)
    if wanted.completed_before is not None:
        conditions.append(completed_at < wanted.completed_before)
    if wanted.reopened is not None:
        conditions.append(reopened_at.is_not(None) if wanted.reopened else reopened_at.is_(None))
    return and_(*conditions)
