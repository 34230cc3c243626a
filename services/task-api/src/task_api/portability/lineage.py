"""Which task of a file goes below which, knowing only the line of tasks that leads to the last one.

What is below a task comes right after it: so exports are written, and so Todoist's indents are. Then five tasks are
all that has to be remembered of a file of any size.
"""

from dataclasses import dataclass
from typing import Final

from task_api.portability.rows import FileRow
from task_api.tasks.intake import Arrival
from task_api.tasks.subtasks import InvalidParentError, check_tree

_ORDER: Final = (
    "must be the id of a task that comes before this one in the file: right before it, or with only what is below it "
    "in between"
)


@dataclass(eq=False)
class Place:
    """Where a row is in its tree, and what became of it.

    Attributes:
        row: That is there.
        above: The place that it is below.
        level: From 1.
        task_id: Once it is a task.
        arrival: While it is about to be one.
        refused: Whether it will be none.
    """

    row: FileRow
    above: "Place | None"
    level: int
    task_id: int | None = None
    arrival: Arrival | None = None
    refused: bool = False


class Lineage:
    """The line of tasks that leads to the last row."""

    def __init__(self) -> None:
        self._line: list[Place] = []
        self._size = 0

    def place(self, row: FileRow) -> Place:
        """Find the place of the next row; a row that cannot be there is refused by its `error`."""
        above = None
        if row.unreadable:
            return Place(row, None, 1, refused=True)
        if row.above is not None:
            above = next((place for place in self._line if place.row.reference == row.above), None)
            if above is None:
                row.error = row.error or InvalidParentError(_ORDER)
                return Place(row, None, 1, refused=True)
        place = Place(row, above, 1 if above is None else above.level + 1)
        try:
            self._check(place)
        except InvalidParentError as error:
            row.error = row.error or error
        place.refused = row.error is not None
        self._line[place.level - 1 :] = [place]
        return place

    def _check(self, place: Place) -> None:
        if place.above is None:
            self._size = 1
        elif place.above.refused:
            raise InvalidParentError("names a task that was refused")
        else:
            check_tree(levels=place.level, tasks=self._size + 1)
            self._size += 1
