"""The rules of an export: which tasks are in it, as of when, and in which form."""

from array import array
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic_core import to_json
from sqlalchemy import Row

from chassis.database import Database
from task_api.engagements.access import enter
from task_api.engagements.spaces import Space
from task_api.portability.csv_form import COLUMNS, csv_lines, row_of
from task_api.portability.records import FORMAT, FORMAT_VERSION
from task_api.portability.repository import NO_PARENT, OutlineRepository
from task_api.portability.schemas import ExportedRecurrence, ExportedTask

ExportFormat = Literal["json", "csv"]
_CHUNK: Final = 250


class TaskExport:
    """Writes somebody's tasks into a stream."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, space: Space, wanted: ExportFormat) -> AsyncIterator[bytes]:
        """Decide what is in the file, and give its pieces.

        Which tasks there are, in which order and below which, is as of this moment. Each task says what it says when
        its piece is made; one that is deleted before that is left out. A connection to the database is held only
        while it is read, never while a piece is sent.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: Not in it; while a piece is made, not any more: then the stream breaks off.
            DatabaseUnavailableError: Now, or while a piece is made: then the stream breaks off.
        """
        async with self._database.session() as session:
            await enter(session, space)
            await session.rollback()  # the outline is of one moment, and begins a transaction of its own
            ids, parents = await OutlineRepository(session, space.owner_id).outline()
        return self._pieces(space, ids, parents, wanted)

    async def _pieces(
        self, space: Space, ids: "array[int]", parents: "array[int]", wanted: ExportFormat
    ) -> AsyncIterator[bytes]:
        gone: set[int] = set()
        yield _head(wanted)
        between = b""
        for begin in range(0, len(ids), _CHUNK):
            chunk = ids[begin : begin + _CHUNK]
            async with self._database.session() as session:
                rows = await OutlineRepository(session, space.owner_id).read(chunk)
                await enter(session, space)  # after reading: who was removed before it gets nothing of it
            gone.update(task_id for task_id in chunk if task_id not in rows)
            tasks = _exported(rows, zip(chunk, parents[begin : begin + _CHUNK], strict=True), gone)
            if wanted == "csv":
                yield csv_lines(map(row_of, tasks))
            elif rows:
                yield between + b",\n".join(to_json(task) for task in tasks)
                between = b",\n"
        if wanted == "json":
            yield b"\n]}\n"


def _head(wanted: ExportFormat) -> bytes:
    if wanted == "csv":
        return csv_lines([COLUMNS])
    head = {"format": FORMAT, "version": FORMAT_VERSION, "exported_at": datetime.now(UTC)}
    return to_json(head)[:-1] + b',"tasks":[\n'


def _exported(
    rows: Mapping[int, Row[Any]], outline: Iterator[tuple[int, int]], gone: set[int]
) -> Iterator[ExportedTask]:
    """Show the rows in the order of the outline; what was moved out from below a deleted task is below none."""
    for task_id, parent_id in outline:
        if task_id not in rows:
            continue
        values = dict(rows[task_id]._mapping)  # noqa: SLF001  (the documented way to read a row by names)
        values["parent_id"] = None if parent_id == NO_PARENT or parent_id in gone else parent_id
        recurrence = values["recurrence"]
        values["recurrence"] = None if recurrence is None else ExportedRecurrence.model_validate(recurrence)
        yield ExportedTask.model_validate(values)
