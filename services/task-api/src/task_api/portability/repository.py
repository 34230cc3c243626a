"""All SQL of export and import that is not about making tasks."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, text
from sqlmodel.ext.asyncio.session import AsyncSession

from task_api.tasks.subtasks import MAX_DEPTH

_ROOTS: Final = 1_000
_TREES: Final = 50
NO_PARENT: Final = 0

_ONE_MOMENT: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
# The index tasks_owner_id_position_idx gives them in order.
_TOPMOST: Final = text(
    """
    SELECT id, position,
           EXISTS (SELECT FROM tasks AS below WHERE below.parent_id = task.id AND below.deleted_at IS NULL) AS is_above
    FROM tasks AS task
    WHERE owner_id = :owner_id AND deleted_at IS NULL AND parent_id IS NULL
      AND (position, id) > (:position, :id)
    ORDER BY position, id
    LIMIT :limit
    """
)
# Bounded: not even a circle, which should not be, would keep it running.
_BELOW: Final = text(
    """
    WITH RECURSIVE tree AS (
        SELECT id, parent_id, position, 1 AS depth FROM tasks
        WHERE parent_id = ANY(:ids) AND owner_id = :owner_id AND deleted_at IS NULL
        UNION ALL
        SELECT below.id, below.parent_id, below.position, depth + 1
        FROM tree JOIN tasks AS below ON below.parent_id = tree.id
        WHERE below.deleted_at IS NULL AND depth < :max_depth
    )
    SELECT id, parent_id FROM tree ORDER BY position, id
    """
)
_READ: Final = text(
    """
    SELECT id, title, description, priority, due_at, tags, recurrence, position, completed, completed_at, version,
           created_at, updated_at
    FROM tasks
    WHERE id = ANY(:ids) AND owner_id = :owner_id AND deleted_at IS NULL
    """
)
_HOLD: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('import ' || CAST(:import_id AS text), 0))")
_FIND: Final = text(
    """
    SELECT reference, task_id FROM import_rows
    WHERE import_id = :import_id AND reference = ANY(:references) AND expires_at > now()
    """
)
# A row that is there has expired, and the purge has not come to it yet.
_NOTE: Final = text(
    """
    INSERT INTO import_rows (import_id, reference, task_id, expires_at)
    SELECT :import_id, reference, task_id, now() + make_interval(secs => :lifetime)
    FROM unnest(CAST(:references AS text[]), CAST(:task_ids AS bigint[])) AS made(reference, task_id)
    ON CONFLICT (import_id, reference)
    DO UPDATE SET task_id = excluded.task_id, expires_at = excluded.expires_at
    """
)
_PURGE: Final = text(
    """
    DELETE FROM import_rows WHERE (import_id, reference) IN (
        SELECT import_id, reference FROM import_rows WHERE expires_at <= now()
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    """
)


class OutlineRepository:
    """Somebody's tasks for an export, in one session's transaction."""

    def __init__(self, session: AsyncSession, owner_id: str) -> None:
        self._session = session
        self._owner_id = owner_id

    async def outline(self) -> tuple["array[int]", "array[int]"]:
        """Give all ids in the owner's order, each with that of the task above: tree after tree, as of one moment.

        Sixteen bytes for each task. To be called before anything else in the transaction.
        """
        connection = await self._session.connection()
        await connection.execute(_ONE_MOMENT)
        ids, parents = array("q"), array("q")
        place: dict[str, Any] = {"position": "", "id": 0}
        while True:
            values = {"owner_id": self._owner_id, "limit": _ROOTS, **place}
            page = (await connection.execute(_TOPMOST, values)).all()
            above = [row.id for row in page if row.is_above]
            below: dict[int, list[int]] = {}
            for row in page:
                if row.is_above and row.id not in below:
                    begin = above.index(row.id)
                    below = await self._below(above[begin : begin + _TREES])
                _walk(row.id, below, ids, parents)
            if len(page) < _ROOTS:
                return ids, parents
            place = {"position": page[-1].position, "id": page[-1].id}

    async def _below(self, ids: Sequence[int]) -> dict[int, list[int]]:
        """Give the tasks below each of some trees, in order."""
        connection = await self._session.connection()
        values = {"ids": list(ids), "owner_id": self._owner_id, "max_depth": MAX_DEPTH}
        found: dict[int, list[int]] = {task_id: [] for task_id in ids}
        for row in await connection.execute(_BELOW, values):
            found.setdefault(row.parent_id, []).append(row.id)
        return found

    async def read(self, ids: Sequence[int]) -> Mapping[int, Row[Any]]:
        """Give tasks as they are now, those that are still there."""
        connection = await self._session.connection()
        rows = await connection.execute(_READ, {"ids": list(ids), "owner_id": self._owner_id})
        return {row.id: row for row in rows}


def _walk(root: int, below: Mapping[int, Sequence[int]], ids: "array[int]", parents: "array[int]") -> None:
    left = [(root, NO_PARENT)]
    while left:
        task_id, parent_id = left.pop()
        ids.append(task_id)
        parents.append(parent_id)
        left += [(child, task_id) for child in reversed(below.get(task_id, ()))]


class ImportRepository:
    """The rows of one import that are tasks already, in one session's transaction."""

    def __init__(self, session: AsyncSession, import_id: UUID) -> None:
        self._session = session
        self._import_id = import_id

    async def hold(self) -> None:
        """Let others that send the same import wait until this transaction ends."""
        await (await self._session.connection()).execute(_HOLD, {"import_id": str(self._import_id)})

    async def find(self, references: Sequence[str]) -> dict[str, int]:
        """Give the tasks that some rows are already; only after `hold`, to see what the last holder committed."""
        connection = await self._session.connection()
        values = {"import_id": self._import_id, "references": list(references)}
        return {row.reference: row.task_id for row in await connection.execute(_FIND, values)}

    async def note(self, made: Mapping[str, int], *, lifetime: int) -> None:
        """Write which task each row is now, for so many seconds."""
        if not made:
            return
        values = {
            "import_id": self._import_id,
            "references": [*made.keys()],
            "task_ids": [*made.values()],
            "lifetime": lifetime,
        }
        await (await self._session.connection()).execute(_NOTE, values)


async def purge_rows(session: AsyncSession, limit: int) -> int:
    """Delete so many expired rows at most; leaves those that another replica is deleting."""
    return (await (await session.connection()).execute(_PURGE, {"limit": limit})).rowcount
