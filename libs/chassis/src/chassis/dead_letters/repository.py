"""All SQL about dead letters and about the failures that lead to them."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.dead_letters.models import DeadLetter, Failures, Status, dead_letters, event_failures

_FAILURES_KEPT: Final = timedelta(days=7)
"""How long a failure waits for its dead letter; far longer than any sidecar goes on trying."""

_columns: Final = dead_letters.c
_SUMMARY: Final = [
    *(column for column in _columns if column.name not in {"body", "body_sha256"}),
    sa.func.octet_length(_columns.body).label("size_bytes"),
]
_open: Final = _columns.status == Status.OPEN.value


@dataclass(frozen=True)
class Origin:
    """Which record of which topic a dead letter was, before it was a dead letter."""

    topic: str
    partition: int
    offset: int


class FailureRepository:
    """What is known about events that failed and may yet succeed, in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def note(self, event_id: str, reason: str) -> int:
        """Count one more failure of an event and keep its reason; tidy up when it is the first.

        Returns:
            How many there are now.
        """
        connection = await self._session.connection()
        again = {
            "reason": reason,
            "attempts": event_failures.c.attempts + 1,
            # Not now(): the transaction may have waited for this row.
            "last_failed_at": sa.func.clock_timestamp(),
        }
        statement = (
            insert(event_failures)
            .values(event_id=event_id, reason=reason, attempts=1)
            .on_conflict_do_update(index_elements=["event_id"], set_=again)
            .returning(event_failures.c.attempts)
        )
        attempts = int((await connection.execute(statement)).scalar_one())
        if attempts == 1:
            await self.forget_settled(but=event_id)
        return attempts

    async def take(self, event_id: str) -> Failures | None:
        """Give and remove what was noted about an event."""
        connection = await self._session.connection()
        noted = event_failures.c
        statement = (
            sa.delete(event_failures)
            .where(noted.event_id == event_id)
            .returning(noted.reason, noted.attempts, noted.first_failed_at, noted.last_failed_at)
        )
        row = (await connection.execute(statement)).first()
        return None if row is None else Failures(**row._asdict())

    async def forget_settled(self, *, but: str | None = None) -> None:
        """Remove the failures of events that were processed since, and those that nobody came back for."""
        connection = await self._session.connection()
        processed = sa.text("event_id IN (SELECT event_id FROM inbox_events)")
        stale = event_failures.c.last_failed_at < sa.func.now() - _FAILURES_KEPT
        statement = sa.delete(event_failures).where(sa.or_(processed, stale))
        if but is not None:
            statement = statement.where(event_failures.c.event_id != but)
        await connection.execute(statement)


class DeadLetterRepository:
    """Dead letters in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, origin: Origin, body: bytes, failures: Failures, event: dict[str, str | None]) -> int | None:
        """Store a letter; None when this very record is there already."""
        statement = (
            insert(dead_letters)
            .values(
                topic=origin.topic,
                partition=origin.partition,
                offset=origin.offset,
                body=body,
                body_sha256=hashlib.sha256(body).digest(),
                reason=failures.reason,
                attempts=failures.attempts,
                first_failed_at=failures.first_failed_at,
                last_failed_at=failures.last_failed_at,
                **event,
            )
            .on_conflict_do_nothing(constraint="dead_letters_origin_key")
            .returning(_columns.id)
        )
        connection = await self._session.connection()
        added: int | None = (await connection.execute(statement)).scalar_one_or_none()
        return added

    async def has(self, origin: Origin, body: bytes) -> bool:
        """Tell whether this very record was stored, whatever became of it since."""
        here = (_columns.topic, _columns.partition, _columns.offset, _columns.body_sha256)
        there = (origin.topic, origin.partition, origin.offset, hashlib.sha256(body).digest())
        statement = sa.select(sa.exists().where(*(column == value for column, value in zip(here, there, strict=True))))
        connection = await self._session.connection()
        return bool((await connection.execute(statement)).scalar_one())

    async def page(self, *, status: Status | None, before: int | None, limit: int) -> list[DeadLetter]:
        """Give letters, newest first; `before` is the last id of the page before."""
        statement = sa.select(*_SUMMARY).where(*_of(status)).order_by(_columns.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(_columns.id < before)
        connection = await self._session.connection()
        return [DeadLetter(**row._asdict()) for row in await connection.execute(statement)]

    async def count(self, *, status: Status | None) -> int:
        """Count what `page` would go through."""
        connection = await self._session.connection()
        statement = sa.select(sa.func.count()).select_from(dead_letters).where(*_of(status))
        return int((await connection.execute(statement)).scalar_one())

    async def open_ids(self, *, after: int, limit: int) -> list[int]:
        """Give open letters in the order in which they came, which is the order of each task's changes."""
        connection = await self._session.connection()
        statement = sa.select(_columns.id).where(_open, _columns.id > after).order_by(_columns.id).limit(limit)
        return list((await connection.execute(statement)).scalars())

    async def get(self, letter_id: int, *, lock: bool = False) -> tuple[DeadLetter, bytes] | None:
        """Give a letter and its bytes.

        Args:
            letter_id: Which.
            lock: Hold it until the transaction ends, so that nobody else closes it meanwhile.
        """
        statement = sa.select(*_SUMMARY, _columns.body).where(_columns.id == letter_id)
        if lock:
            statement = statement.with_for_update()
        connection = await self._session.connection()
        row = (await connection.execute(statement)).first()
        if row is None:
            return None
        values = row._asdict()
        body: bytes = values.pop("body")
        return DeadLetter(**values), body

    async def close(
        self, letter_id: int, status: Status, *, by: str, verdict: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Set what became of a letter that the transaction holds."""
        values = {"status": status.value, "closed_by": by, "verdict": verdict, "note": note}
        succeeded = {"attempts": _columns.attempts + 1} if status is Status.REDRIVEN else {}
        return await self._update(letter_id, values | succeeded | {"closed_at": sa.func.clock_timestamp()})

    async def fail_again(self, letter_id: int, reason: str) -> DeadLetter:
        """Note one more failure of a letter that the transaction holds."""
        now = sa.func.clock_timestamp()
        return await self._update(
            letter_id, {"reason": reason, "attempts": _columns.attempts + 1, "last_failed_at": now}
        )

    async def _update(self, letter_id: int, values: dict[str, Any]) -> DeadLetter:
        connection = await self._session.connection()
        statement = sa.update(dead_letters).where(_columns.id == letter_id).values(values).returning(*_SUMMARY)
        return DeadLetter(**(await connection.execute(statement)).one()._asdict())


def _of(status: Status | None) -> list[sa.ColumnElement[bool]]:
    return [] if status is None else [_columns.status == status.value]
