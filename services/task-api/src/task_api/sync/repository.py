"""All SQL of the feed. It goes by transactions and never by "id or time greater than the last one seen".

Ids and times are given to a row before its transaction commits, so a reader that has seen 7 may have passed a 6 that
is still to come. A transaction id has the same fault, but PostgreSQL says which of them have not ended: nothing at or
above the oldest of those (`pg_snapshot_xmin`) is given out, and below it nothing can appear any more. See ADR 9.
"""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func, literal, literal_column, or_, text, true
from sqlalchemy import tuple_ as row
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import Select

from task_api.engagements.reach import still_in
from task_api.engagements.spaces import Space
from task_api.sync.models import FeedHead, FeedPage, Position
from task_api.tasks.models import Task

_SNAPSHOT: Final = func.pg_current_snapshot()
# xid8 has no cast to bigint. It stays within one for 290,000 years of a million transactions a second.
_HORIZON: Final = cast(cast(func.pg_snapshot_xmin(_SNAPSHOT), Text), BigInteger)
_NEWEST: Final = cast(cast(func.pg_snapshot_xmax(_SNAPSHOT), Text), BigInteger)
_HISTORY: Final = literal_column(
    """(
        SELECT concat_ws('/', system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8),
                         pg_database.oid, 'tasks'::regclass::oid)
        FROM pg_control_system(), pg_database
        WHERE datname = current_database()
    )""",
    Text,
)
_RESTAMP: Final = text(
    """
    UPDATE tasks SET owner_id = owner_id
    WHERE owner_id = :owner_id AND changed_xid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    """
)
_HEAD: Final = text(
    """
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    """
)
# LATERAL with ORDER BY and LIMIT: one probe of the index per user, whatever the planner thinks of the range. Without
# the order it may hope to meet a row soon and read the table from its beginning for everybody who has none.
CHANGED_OWNERS: Final = text(
    """
    SELECT owner_id
    FROM unnest(CAST(:owner_ids AS text[])) AS owner(owner_id)
    CROSS JOIN LATERAL (
        SELECT FROM tasks
        WHERE tasks.owner_id = owner.owner_id
          AND changed_xid >= :since
          AND changed_xid < :horizon
        ORDER BY changed_xid
        LIMIT 1
    ) AS change
    """
)


class FeedRepository:
    """The feed of changes, in one session's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, space: Space, *, after: Position, limit: int) -> FeedPage:
        """Give what changed after a place, and how far the feed reaches: one statement, so one snapshot.

        Of an engagement nothing to whoever is no member in this very snapshot.
        """
        statement = page_statement(space.owner_id, after, limit, also=still_in(space))
        rows = (await self._session.exec(statement)).all()
        head = FeedHead(horizon=rows[0][0], newest=rows[0][1], history=rows[0][2])
        found: list[Task | None] = [row[3] for row in rows]
        tasks = [task for task in found if task is not None]
        return FeedPage(head=head, tasks=tasks[:limit], has_more=len(tasks) > limit)

    async def restamp(self, owner_id: str) -> bool:
        """Bring tasks into this history that were restored from a dump of another, with its transaction ids.

        They would come up only when this server's own ids have got that far. Tells whether there were any.
        """
        connection = await self._session.connection()
        return (await connection.execute(_RESTAMP, {"owner_id": owner_id})).rowcount > 0

    async def changed_owners(self, owner_ids: Collection[str], *, since: int | None) -> tuple[set[str], int, int]:
        """Tell which users have changes from a transaction on (without one, all); the horizon; the newest id.

        The horizon is read first: the second statement sees at least what the first one did.
        """
        connection = await self._session.connection()
        horizon, newest = (await connection.execute(_HEAD)).one()
        if since is None:
            return set(owner_ids), horizon, newest
        parameters = {"owner_ids": list(owner_ids), "since": since, "horizon": horizon}
        return set(await connection.scalars(CHANGED_OWNERS, parameters)), horizon, newest


def page_statement(
    owner_id: str, after: Position, limit: int, *, also: Sequence[ColumnElement[bool]] = ()
) -> Select[int, int, str, Task]:
    """Make the statement of a page; the index `tasks_owner_id_changed_xid_id_idx` gives its rows in order.

    Its rows are the head and a task; without any task, one row of the head and no task.
    """
    head = select(_HORIZON.label("horizon"), _NEWEST.label("newest"), _HISTORY.label("history")).subquery("head")
    changed = (
        select(Task)
        .where(
            col(Task.owner_id) == owner_id,
            row(col(Task.changed_xid), col(Task.id))
            > row(literal(after.xid, BigInteger), literal(after.task_id, BigInteger)),
            col(Task.changed_xid) < _HORIZON,
            _worth_telling(after),
            *also,
        )
        .order_by(col(Task.changed_xid), col(Task.id))
        .limit(limit + 1)
        .subquery("changed")
    )
    task = aliased(Task, changed)
    return (
        select(head.c.horizon, head.c.newest, head.c.history, task)
        .select_from(head)
        .outerjoin(changed, true())
        .order_by(changed.c.changed_xid, changed.c.id)
    )


def _worth_telling(after: Position) -> ColumnElement[bool]:
    if not after.full_until:
        return true()
    return or_(col(Task.deleted_at).is_(None), col(Task.changed_xid) >= after.full_until)
