"""The rules about tasks that come from elsewhere: many at once, with what they already are.

Unlike a task that is created they may be completed, have an age, and be below each other from the start. Each is its
first version and has one event, `task.created`. A round trip for each kind of statement, as in a bulk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.errors import ApiError
from chassis.identity import Principal
from task_api.engagements.access import hold
from task_api.engagements.spaces import Space
from task_api.outbox.service import Outbox
from task_api.tasks.consequences import Change
from task_api.tasks.events import event_of
from task_api.tasks.models import Task
from task_api.tasks.ordering import position_at
from task_api.tasks.repository import TaskRepository
from task_api.tasks.subtasks import InvalidParentError, Subtasks, check_tree

_STEP: Final = timedelta(microseconds=1)


@dataclass(frozen=True, eq=False)
class Arrival:
    """A task that is to be taken in.

    Attributes:
        fields: Of the model, checked.
        above: What it goes below: an earlier arrival of the same call, or the id of a task that is there.
    """

    fields: dict[str, Any]
    above: "Arrival | int | None" = None


class TaskIntake:
    """Takes in tasks from elsewhere."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def take_in(
        self, user: Principal, session: AsyncSession, space: Space, arrivals: Sequence[Arrival], *, at: datetime
    ) -> list[int | ApiError]:
        """Add tasks and their events to the session's transaction; the caller commits, then calls `committed`.

        That trees among the arrivals are neither too deep nor too large is the caller's to see to; what they make of
        trees that are there already is checked. Those that go below one task of these fail together.

        Args:
            user: Who brings them.
            session: With its transaction.
            space: Where they go.
            arrivals: In the order that they shall have.
            at: The moment of it all. A later one than that of the call before, or two orders are mixed.

        Returns:
            The id of each, or why it was not taken.

        Raises:
            EngagementForbiddenError: The user may not write there (any more).
        """
        recipients = await hold(session, user.id, space.owner_id)
        refused = await self._refused(space, session, arrivals)
        tasks: dict[Arrival, Task] = {}
        outcomes: list[ApiError | Task] = []
        for arrival in arrivals:
            error = refused.get(arrival.above) if arrival.above is not None else None
            if error is not None:
                refused[arrival] = error
                outcomes.append(error)
            else:
                tasks[arrival] = task = _task(space, arrival.fields, at=at, ahead=len(tasks) * _STEP)
                outcomes.append(task)
        repository, made = TaskRepository(session), list(tasks.values())
        await repository.number(made)
        for arrival, task in tasks.items():
            task.parent_id = tasks[arrival.above].id if isinstance(arrival.above, Arrival) else arrival.above
        await repository.add_many(made)
        told = [event_of(user, Change(None, task), recipients) for task in made]
        await self._outbox.add_many(session, told)
        return [outcome if isinstance(outcome, ApiError) else outcome.id or 0 for outcome in outcomes]

    def committed(self) -> None:
        """Tell those who wait for events."""
        self._outbox.committed()

    async def _refused(
        self, space: Space, session: AsyncSession, arrivals: Sequence[Arrival]
    ) -> dict["Arrival | int", ApiError]:
        """Say which tasks that are there cannot have the arrivals below them, and hold the others."""
        below = _measured(arrivals)
        refused: dict[Arrival | int, ApiError] = {}
        if below:
            subtasks, sizes = Subtasks(session, space.owner_id), dict[int, int]()
            await subtasks.hold_structure()
            for task_id, (levels, count) in sorted(below.items()):  # as others lock them: above before below
                try:
                    room = await subtasks.room_below(task_id)
                    size = sizes.get(room.root_id, room.size) + count
                    check_tree(levels=room.level + levels, tasks=size)
                    sizes[room.root_id] = size
                except InvalidParentError as error:
                    refused[task_id] = error
        return refused


def _measured(arrivals: Sequence[Arrival]) -> dict[int, tuple[int, int]]:
    """Give how many levels, and how many tasks, go below each task that is there."""
    places: dict[Arrival, tuple[int, int]] = {}
    found: dict[int, tuple[int, int]] = {}
    for arrival in arrivals:
        if isinstance(arrival.above, int):
            places[arrival] = (arrival.above, 1)
        elif arrival.above in places:
            task_id, level = places[arrival.above]
            places[arrival] = (task_id, level + 1)
        else:
            continue
        task_id, level = places[arrival]
        levels, count = found.get(task_id, (0, 0))
        found[task_id] = (max(level, levels), count + 1)
    return found


def _task(space: Space, fields: dict[str, Any], *, at: datetime, ahead: timedelta) -> Task:
    times = {"created_at": min(fields.get("created_at") or at, at), "updated_at": at}
    completed_at = min(fields.get("completed_at") or at, at) if fields["completed"] else None
    position = position_at(at + ahead)
    return Task(owner_id=space.owner_id, position=position, **fields | times | {"completed_at": completed_at})
