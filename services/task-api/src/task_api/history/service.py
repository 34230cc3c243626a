"""The rules about the history of completions: whose it is, and how it is paged."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.identity import Principal
from chassis.pagination import Page
from task_api.engagements.access import enter
from task_api.engagements.spaces import Space
from task_api.history.models import Completion
from task_api.history.repository import CompletionFilter, CompletionRepository, Place
from task_api.tasks.cursors import ListCursors
from task_api.tasks.service import TaskService


@dataclass(frozen=True)
class CompletionListing:
    """A filter, and which part of what matches."""

    matching: CompletionFilter
    limit: int
    cursor: str | None
    total: bool


class HistoryService:
    """What can be read of the history, by whom."""

    def __init__(self, tasks: TaskService, cursors: ListCursors) -> None:
        self._tasks = tasks
        self._cursors = cursors

    async def of_task(
        self, user: Principal, session: AsyncSession, task_id: int, wanted: CompletionListing
    ) -> Page[Completion]:
        """Give a page of the completions of one of the user's tasks and of those that it recurred from.

        Raises:
            TaskNotFoundError: No such task.
            TaskForbiddenError: Someone else's.
            InvalidCursorError: The cursor is none of ours.
            CursorMismatchError: The cursor belongs to another list.
        """
        task = await self._tasks.get_task(user, session, task_id)
        series = replace(wanted.matching, series_id=task.series_id or task_id, engagement_id=task.engagement_id)
        return await self._page(user, session, replace(wanted, matching=series))

    async def of_all(self, user: Principal, session: AsyncSession, wanted: CompletionListing) -> Page[Completion]:
        """Give a page of the completions of all of the user's tasks, or of those in one engagement.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not in it.
            InvalidCursorError: The cursor is none of ours.
            CursorMismatchError: The cursor belongs to another list.
        """
        await enter(session, Space(user.id, wanted.matching.engagement_id))
        return await self._page(user, session, wanted)

    async def _page(self, user: Principal, session: AsyncSession, wanted: CompletionListing) -> Page[Completion]:
        history, query, after = CompletionRepository(session), _query(wanted.matching), None
        space = Space(user.id, wanted.matching.engagement_id)
        if wanted.cursor is not None:
            moment, completion_id = self._cursors.read(wanted.cursor, user_id=user.id, query=query)
            after = Place(datetime.fromisoformat(moment), int(completion_id))
        found = await history.page(space, wanted.matching, after=after, limit=wanted.limit)
        total = await history.count(space, wanted.matching) if wanted.total else None
        shown, next_cursor = found[: wanted.limit], None
        if len(found) > wanted.limit:
            keys = [shown[-1].completed_at.isoformat(), str(shown[-1].id)]
            next_cursor = self._cursors.write(keys, user_id=user.id, query=query)
        return Page(items=shown, next_cursor=next_cursor, total=total)


def _query(matching: CompletionFilter) -> str:
    """Give a filter in one normal form; a cursor is bound to it, and none of a list of tasks looks like it."""
    return repr(("completions", sorted((name, value) for name, value in asdict(matching).items() if value is not None)))
