"""The rules of quick add: a line becomes a draft, a draft an ordinary task."""

from datetime import UTC, datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import FieldProblem, InvalidInputError
from chassis.identity import Principal
from task_api.quick_add.parser import Reading, read
from task_api.quick_add.schemas import QuickAddCreate, QuickAddIn
from task_api.tasks.models import Task
from task_api.tasks.schemas import MAX_TITLE_CHARS, RecurrenceIn, TaskCreate
from task_api.tasks.service import TaskService
from task_api.tasks.terms import Terms


class QuickAdd:
    """What can be done with a line of plain words."""

    def __init__(self, tasks: TaskService) -> None:
        self._tasks = tasks

    def read(self, line: QuickAddIn) -> Reading:
        """Say what a line means now; nothing is written."""
        return read(line.text, time_zone=line.time_zone, now=datetime.now(UTC))

    async def create(self, user: Principal, session: AsyncSession, line: QuickAddCreate, terms: Terms) -> Task:
        """Create the task that a line describes, as if its draft had been sent to `POST /tasks`.

        Raises:
            InvalidInputError: What is left of the line is no title.
        """
        return await self._tasks.create_task(user, session, _draft(self.read(line), line.engagement_id), terms)


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
