"""The rules of quick add: a line becomes a draft, a draft an ordinary task."""

from datetime import UTC, datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import Database
from chassis.errors import FieldProblem, InvalidInputError
from chassis.identity import Principal
from task_api.quick_add.parser import Reading, read
from task_api.quick_add.schemas import QuickAddCreate, QuickAddIn
from task_api.tasks.models import Task
from task_api.tasks.schemas import MAX_TITLE_CHARS, RecurrenceIn, TaskCreate
from task_api.tasks.service import TaskService
from task_api.tasks.terms import Terms
from task_api.users.service import Profiles


class QuickAdd:
    """What can be done with a line of plain words."""

    def __init__(self, tasks: TaskService, profiles: Profiles, database: Database) -> None:
        self._tasks, self._profiles, self._database = tasks, profiles, database

    async def read(self, user: Principal, line: QuickAddIn) -> Reading:
        """Say what a line means now; nothing is written, and nothing read where the line says its time zone."""
        if line.named_time_zone is not None:
            return _read(line, line.named_time_zone)
        async with self._database.session() as session:
            return _read(line, await self._profiles.time_zone(user, session))

    async def create(self, user: Principal, session: AsyncSession, line: QuickAddCreate, terms: Terms) -> Task:
        """Create the task that a line describes, as if its draft had been sent to `POST /tasks`.

        Raises:
            InvalidInputError: What is left of the line is no title.
        """
        time_zone = line.named_time_zone or await self._profiles.time_zone(user, session)
        return await self._tasks.create_task(user, session, _draft(_read(line, time_zone), line.engagement_id), terms)


def _read(line: QuickAddIn, time_zone: str) -> Reading:
    return read(line.text, time_zone=time_zone, now=datetime.now(UTC))


def _draft(reading: Reading, engagement_id: int | None = None) -> TaskCreate:
    if not 1 <= len(reading.title) <= MAX_TITLE_CHARS:
        message = f"leaves a title of {len(reading.title)} characters; a title has 1 to {MAX_TITLE_CHARS}"
        raise InvalidInputError(f"text: {message}", errors=[FieldProblem(field="text", message=message)])
    recurrence = None if reading.recurrence is None else RecurrenceIn.model_validate(reading.recurrence)
    return TaskCreate(
        title=reading.title,
        priority=reading.priority,
        due_at=None if reading.due_at is None else reading.due_at.isoformat(),
        tags=list(reading.tags),
        recurrence=recurrence,
        engagement_id=engagement_id,
    )
