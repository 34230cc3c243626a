"""The rules of an import: what becomes of each row, and what is written together.

Rows are written in batches, each one transaction: the tasks, their events and comments, and a note of which row is
which task. So a process may die between any two lines: what was committed is known as such when the file is sent again.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import ClassVar, Final
from uuid import UUID

from chassis.database import Database
from chassis.errors import ApiError
from chassis.identity import Principal
from chassis.periodic import repeating
from task_api.comments.intake import CommentArrival, CommentIntake
from task_api.engagements.access import enter
from task_api.engagements.roles import Act
from task_api.engagements.spaces import Space
from task_api.portability.lineage import Lineage, Place
from task_api.portability.reading import Reader
from task_api.portability.records import InvalidFileError
from task_api.portability.repository import ImportRepository, purge_rows
from task_api.portability.rows import FileRow
from task_api.portability.schemas import MAX_REPORTED, ImportProblem, ImportRemark, ImportReport
from task_api.tasks.intake import Arrival, TaskIntake

BATCH: Final = 500
BATCH_CHARS: Final = 1_000_000
"""Of titles and descriptions: so much is held, and written in one transaction, when tasks are long."""
_PURGE_BATCH: Final = 5_000
_PURGE_INTERVAL: Final = 300.0
_APART: Final = timedelta(milliseconds=1)  # more than the tasks of a batch are


class UploadStalledError(ApiError):
    """Nothing of the file arrived for too long; send it again with the same key."""

    status: ClassVar[int] = 408
    code: ClassVar[str] = "upload_stalled"

    def __init__(self, seconds: float) -> None:
        detail = f"Nothing of the file arrived for {seconds:g} seconds; send it again with the same Idempotency-Key."
        super().__init__(detail, headers={"Connection": "close"})


@dataclass
class _Tally:
    """What became of the rows so far; of problems and remarks only the first ones are kept."""

    tasks: int = 0
    created: int = 0
    already_imported: int = 0
    failed: int = 0
    comments: int = 0
    problems: list[ImportProblem] = field(default_factory=list)
    remarks: list[ImportRemark] = field(default_factory=list)
    remarks_total: int = 0

    def refuse(self, row: FileRow, error: ApiError) -> None:
        self.failed += 1
        if len(self.problems) < MAX_REPORTED:
            problem = ImportProblem(line=row.line, id=row.id, code=error.code, detail=error.detail, errors=error.errors)
            self.problems.append(problem)

    def hear(self, row: FileRow) -> None:
        self.tasks += 1
        self.remarks_total += row.remarks.total
        self.remarks += islice(row.remarks, MAX_REPORTED - len(self.remarks))

    def make(self, row: FileRow) -> None:
        self.created += 1
        self.comments += len(row.comments)


class TaskImport:
    """Reads files into somebody's tasks."""

    def __init__(
        self,
        database: Database,
        intake: TaskIntake,
        comments: CommentIntake,
        *,
        max_tasks: int,
        stall_timeout: float,
        lifetime: int,
    ) -> None:
        """Say where to, and how much.

        Args:
            database: Where rows are noted.
            intake: Makes the tasks.
            comments: Makes their comments.
            max_tasks: In one file.
            stall_timeout: Seconds in which some of the file must arrive.
            lifetime: Seconds for which a file that is sent again is known.
        """
        self._database, self._intake, self._comments = database, intake, comments
        self._max_tasks, self._stall_timeout, self._lifetime = max_tasks, stall_timeout, lifetime

    async def run(
        self, user: Principal, space: Space, pieces: AsyncIterator[bytes], reader: Reader, *, key: str | None
    ) -> ImportReport:
        """Import a file.

        Args:
            user: Who brings the tasks.
            space: Where they go.
            pieces: Of the file, as they arrive.
            reader: Of its form.
            key: Names this import among the user's; None to try only, and write nothing.

        Raises:
            EngagementNotFoundError: No such engagement.
            EngagementForbiddenError: The user may not write there (any more); what comes before was imported.
            InvalidFileError: The file cannot be read on; what comes before was imported.
            UploadStalledError: No more of it arrived; likewise.
            DatabaseUnavailableError: Likewise.
        """
        if space.engagement_id is not None:
            async with self._database.session() as session:
                await enter(session, space, Act.WRITE)
        run = _Run(self._database, self._intake, self._comments, user, space, key, self._lifetime)
        try:
            async for piece in _in_time(pieces, self._stall_timeout):
                await self._take(run, reader.feed(piece))
            await self._take(run, reader.close())
        except InvalidFileError as error:
            await run.flush()
            done = None if key is None else run.tally.created + run.tally.already_imported
            raise InvalidFileError(error.line, error.message, imported=done) from error
        await run.flush()
        return ImportReport(dry_run=key is None, format=reader.format, **vars(run.tally))

    async def _take(self, run: "_Run", rows: Iterator[FileRow]) -> None:
        for row in rows:
            if run.tally.tasks == self._max_tasks:
                raise InvalidFileError(row.line, f"the file has more than {self._max_tasks} tasks")
            run.add(row)
            if run.is_full:
                await run.flush()

    async def purge(self) -> None:
        """Forget rows whose time is over, in small transactions; every replica may, none waits for another."""
        batch = _PURGE_BATCH
        while batch == _PURGE_BATCH:
            async with self._database.session() as session:
                batch = await purge_rows(session, _PURGE_BATCH)
                await session.commit()

    def forgetting(self) -> AbstractAsyncContextManager[None]:
        """Purge in the background."""
        return repeating("forget-import-rows", _PURGE_INTERVAL, self.purge)


class _Run:
    """One file while it is imported; holds a batch of rows, and the line that leads to the last one."""

    def __init__(
        self,
        database: Database,
        intake: TaskIntake,
        comments: CommentIntake,
        user: Principal,
        space: Space,
        key: str | None,
        lifetime: int,
    ) -> None:
        self._database, self._intake, self._comments = database, intake, comments
        self._user, self._space = user, space
        self._import_id = None if key is None else _import_id(space.key, key)
        self._lifetime = lifetime
        self._lineage = Lineage()
        self._at = datetime.min.replace(tzinfo=UTC)
        self._chars = 0
        self.held: list[Place] = []
        self.tally = _Tally()

    @property
    def is_full(self) -> bool:
        """Tell whether so much is held that it should be written."""
        return len(self.held) >= BATCH or self._chars >= BATCH_CHARS

    def add(self, row: FileRow) -> None:
        """Take the next row; one that is refused needs no transaction."""
        self.tally.hear(row)
        place = self._lineage.place(row)
        if row.error is not None:
            self.tally.refuse(row, row.error)
        elif self._import_id is None:
            self.tally.make(row)
        else:
            self.held.append(place)
            self._chars += row.chars

    async def flush(self) -> None:
        """Write what is held."""
        places, self.held, self._chars = self.held, [], 0
        if not places or self._import_id is None:
            return
        self._at = max(datetime.now(UTC), self._at + _APART)
        async with self._database.session() as session:
            rows = ImportRepository(session, self._import_id)
            await rows.hold()
            known = await rows.find([place.row.reference for place in places])
            new = _not_yet(places, known)
            outcomes = await self._intake.take_in(
                self._user,
                session,
                self._space,
                [place.arrival for place in new if place.arrival is not None],
                at=self._at,
            )
            made, comments = dict[str, int](), dict[int, list[CommentArrival]]()
            for place, outcome in zip(new, outcomes, strict=True):
                if not isinstance(outcome, ApiError):
                    made[place.row.reference] = outcome
                    comments[outcome] = place.row.comments
            await self._comments.take_in(self._user, session, comments, at=self._at)
            await rows.note(made, lifetime=self._lifetime)
            await session.commit()
        self._intake.committed()
        self._settle(places, new, outcomes, known | made)

    def _settle(
        self, places: list[Place], new: list[Place], outcomes: list[int | ApiError], tasks: dict[str, int]
    ) -> None:
        for place, outcome in zip(new, outcomes, strict=True):
            if isinstance(outcome, ApiError):
                self.tally.refuse(place.row, outcome)
                place.refused = True
            else:
                self.tally.make(place.row)
        self.tally.already_imported += len(places) - len(new)
        for place in places:
            place.task_id, place.arrival = tasks.get(place.row.reference), None


def _not_yet(places: list[Place], known: dict[str, int]) -> list[Place]:
    """Give the rows that are no tasks yet, each reference once, and prepare them."""
    new: dict[str, Place] = {}
    for place in places:
        reference, above = place.row.reference, place.above
        place.task_id = known.get(reference)
        if place.task_id is not None:
            continue
        if reference in new:
            place.arrival = new[reference].arrival
            continue
        below = None if above is None else above.task_id if above.task_id is not None else above.arrival
        place.arrival = Arrival(place.row.fields(), below)
        new[reference] = place
    return [*new.values()]


async def _in_time(pieces: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Give the pieces, as long as each comes in time."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise UploadStalledError(seconds) from None
        if piece is None:
            return
        yield piece


def _import_id(space: str, key: str) -> UUID:
    """Give what stands for somebody's import into a space; different ones are different."""
    return UUID(bytes=hashlib.sha256(f"{space}\x00{key}".encode()).digest()[:16])
