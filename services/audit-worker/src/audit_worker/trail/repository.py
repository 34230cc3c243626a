"""All SQL about the trail. Every statement that reads for a caller starts from `_visible`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from audit_worker.trail.chain import Head
from audit_worker.trail.models import AuditEntry, NewEntry
from chassis.identity import ERASED
from task_events import utc_text

# The clock of the database, read under the lock: one clock for all replicas, never behind the entry before.
_LOCK_HEAD: Final = text("SELECT sequence, hash, clock_timestamp() FROM chain_head WHERE id = 1 FOR UPDATE")
_HEAD: Final = text("SELECT sequence, hash FROM chain_head WHERE id = 1")
# One statement, one parameter for all rows: its text, and so its plan, is the same for every size of a batch. Columns
# by name: one that a later release adds gets its default, and not the NULL of a row that does not know it.
_COLUMNS: Final = ", ".join(field.name for field in fields(NewEntry))
_APPEND: Final = text(
    f"""
    WITH moved AS (UPDATE chain_head SET sequence = :sequence, hash = :hash WHERE id = 1)
    INSERT INTO audit_entries ({_COLUMNS})
    SELECT {_COLUMNS} FROM jsonb_populate_recordset(NULL::audit_entries, CAST(:rows AS jsonb))
    """  # noqa: S608  (names of fields in this code)
)
_VERSIONS_TAKEN: Final = text(
    """
    SELECT DISTINCT entry.task_id, entry.task_version FROM audit_entries AS entry
    JOIN unnest(CAST(:tasks AS bigint[]), CAST(:versions AS bigint[])) AS asked (task_id, task_version)
        ON entry.task_id = asked.task_id AND entry.task_version = asked.task_version
    """
)
# An entry of a user's own task loses its content; one of another's task that the user changed, only who did.
_ERASE_OWN: Final = text(
    """
    UPDATE audit_entries SET owner_id = :erased, actor = :erased, changes = '{}', task = '{}', corr_id = '', salt = '',
        actor_salt = CASE WHEN actor_salt IS NOT NULL THEN '' END, erased_at = clock_timestamp()
    WHERE sequence = ANY (ARRAY(SELECT sequence FROM audit_entries WHERE owner_id = :subject LIMIT :limit))
    """
)
_ERASE_ACTOR: Final = text(
    """
    UPDATE audit_entries SET actor = :erased, erased_at = clock_timestamp(),
        salt = CASE WHEN actor_hash IS NULL THEN '' ELSE salt END,
        actor_salt = CASE WHEN actor_salt IS NOT NULL THEN '' END
    WHERE sequence = ANY (
        ARRAY(SELECT sequence FROM audit_entries WHERE actor = :subject AND actor <> owner_id LIMIT :limit)
    )
    """
)


@dataclass(frozen=True)
class Which:
    """Which entries a caller reads.

    Attributes:
        owner_id: Whose tasks they are of; None: everybody's.
        task_id: Of which task; None: of all.
        until: The last of them at most, by its sequence; None: as far as the chain goes.
    """

    owner_id: str | None
    task_id: int | None = None
    until: int | None = None


def _visible(which: Which) -> list[ColumnElement[bool]]:
    conditions = []
    if which.owner_id is not None:
        conditions.append(col(AuditEntry.owner_id) == which.owner_id)
    if which.task_id is not None:
        conditions.append(col(AuditEntry.task_id) == which.task_id)
    if which.until is not None:
        conditions.append(col(AuditEntry.sequence) <= which.until)
    return conditions


class TrailRepository:
    """The trail in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock_head(self) -> tuple[Head, datetime]:
        """Hold the end of the chain until the transaction ends; appends take turns here.

        Returns:
            The head, and the time by the database's clock.
        """
        connection = await self._session.connection()
        sequence, digest, now = (await connection.execute(_LOCK_HEAD)).one()
        return Head(sequence, digest), now

    async def head(self) -> Head:
        """Give the end of the chain as it is now."""
        connection = await self._session.connection()
        return Head(*(await connection.execute(_HEAD)).one())

    async def append(self, entries: Sequence[NewEntry], head: Head) -> None:
        """Add entries in one statement and move the head, which the transaction must hold, to the last of them."""
        rows = json.dumps([vars(entry) for entry in entries], ensure_ascii=False, default=utc_text)
        connection = await self._session.connection()
        await connection.execute(_APPEND, {"rows": rows, "sequence": head.sequence, "hash": head.hash})

    async def erase_some(self, subject: str, *, limit: int) -> int:
        """Take a user out of so many entries at most; gives how many there were."""
        connection = await self._session.connection()
        values = {"subject": subject, "erased": ERASED, "limit": limit}
        own = await connection.execute(_ERASE_OWN, values)
        return own.rowcount or (await connection.execute(_ERASE_ACTOR, values)).rowcount

    async def versions_taken(self, versions: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """Tell which of these pairs of task id and version the trail already has an entry for."""
        tasks, numbers = zip(*versions, strict=True)
        connection = await self._session.connection()
        rows = await connection.execute(_VERSIONS_TAKEN, {"tasks": list(tasks), "versions": list(numbers)})
        return {(task, version) for task, version in rows}

    async def page(self, which: Which, *, after: int | None, limit: int) -> list[AuditEntry]:
        """Give entries in the order of the chain; `after` is the last sequence of the page before."""
        statement = select(AuditEntry).where(*_visible(which))
        if after is not None:
            statement = statement.where(col(AuditEntry.sequence) > after)
        statement = statement.order_by(col(AuditEntry.sequence)).limit(limit)
        return list((await self._session.exec(statement)).all())

    async def count(self, which: Which) -> int:
        """Count what `page` would go through."""
        statement = select(func.count()).select_from(AuditEntry).where(*_visible(which))
        return (await self._session.exec(statement)).one()
